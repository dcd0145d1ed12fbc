"""A gigabyte of every system is replayed in memory that does not grow with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.large.data import LARGE, ROW_BYTES, Large
from tests.large.replaying import replayed

ROWS = 10**9 // ROW_BYTES
_MB = 1 << 20
MOST, MOST_IN_ALL, FLAT = 200 * _MB, 240 * _MB, 60 * _MB
"""Growth since a tenth was read, since before the source was opened, and what the last third may add."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
def test_a_gigabyte_is_replayed_in_bounded_memory(
    large: Large, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue(large.server) if large.server else None
    with large.make(server, tmp_path, ROWS) as uri:
        found = replayed(uri, ROWS, timeout=300)
    assert found.rows == ROWS
    assert found.growth <= MOST, found
    assert found.drift <= FLAT, found
    assert max(found.thirds) - found.before <= MOST_IN_ALL, found
