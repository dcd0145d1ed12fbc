"""The store of metadata that orchestrators of these tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from tests.services.databases import empty_database


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where it is: in memory, or in the system that the test is parametrized by, indirectly."""
    return empty_database(getattr(request, "param", "memory"), request, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """The store there."""
    store = await open_store(url)
    yield store
    await store.close()
