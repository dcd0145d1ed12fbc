"""Requests as MongoDB's driver takes them, without a server."""

from __future__ import annotations

import pytest

from streamcore.systems.mongo_writing import Upsert


@pytest.mark.parametrize(
    ("upsert", "changes"),
    [
        (Upsert({"id": 1}, {}), {"$setOnInsert": {"id": 1}}),
        (Upsert({"id": 1}, {}, {"name": "ann"}), {"$setOnInsert": {"name": "ann"}}),
        (Upsert({"id": 1}, {"id": 1, "name": "ann"}), {"$set": {"id": 1, "name": "ann"}}),
    ],
    ids=["of a key alone, where what is there stays", "where what is there stays", "all fields"],
)
def test_a_change_is_never_empty(upsert: Upsert, changes: object) -> None:
    """The driver refuses one that is, with an error of no row."""
    assert [request._doc for request in upsert.requests()] == [changes]
