"""Empty databases, by the name of their system."""

from __future__ import annotations

from pathlib import Path

import pytest


def empty_database(system: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of one: in ``memory``, an ``sqlite`` file in *folder*, or on a ``postgres`` server."""
    if system == "memory":
        return "memory:"
    if system == "sqlite":
        return f"sqlite:///{folder}/metadata.db"
    url: str = request.getfixturevalue(system).fresh_database()
    return url
