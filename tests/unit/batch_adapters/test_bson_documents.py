"""The JSON of a page of more documents than are decoded together."""

from __future__ import annotations

import json

import bson
import numpy as np

from batch_adapters.bson_documents import BsonPage
from streamcore.batch import PartitionId
from tests.unit.systems.test_bson_elements import documents_of

ROWS, NAN, BROKEN = 2_500, (0, 1_000, 2_499), (999, 1_500)


def test_documents_that_are_refused_are_those_wherever_they_are_in_a_large_page() -> None:
    whole = [bson.encode({"_id": n, "v": float("nan") if n in NAN else n, "t": "text"}) for n in range(ROWS)]
    for n in BROKEN:
        whole[n] = whole[n].replace(b"text", b"te\xfft")
    chunk = BsonPage(documents_of(whole), ("_id",)).chunk(PartitionId("t", 0, "t"), 5)
    good = np.setdiff1d(np.arange(ROWS), [*NAN, *BROKEN])
    assert chunk.offsets().tolist() == (good + 5).tolist()
    assert [json.loads(text or b"") for text in chunk.values()] == [
        {"_id": n, "v": n, "t": "text"} for n in good.tolist()
    ]
    assert sorted(chunk.rejects.frame["_offset"]) == [n + 5 for n in sorted([*NAN, *BROKEN])]
    assert {n: chunk.original(n + 5).data for n in (*NAN, *BROKEN)} == {n: whole[n] for n in (*NAN, *BROKEN)}


def test_refused_documents_among_many_that_are_not_walked_are_those_too() -> None:
    """No two documents have the same members, so each goes by its JSON."""
    whole = [bson.encode({f"v{n}": float("nan") if n in NAN else n}) for n in range(ROWS)]
    page = BsonPage(documents_of([bson.encode({"_id": 0, **bson.decode(one)}) for one in whole]), ("_id",))
    chunk = page.chunk(PartitionId("t", 0, "t"), 0)
    assert [place for place in range(ROWS) if place not in chunk.offsets()] == list(NAN)
    assert json.loads(chunk.values()[1_000] or b"") == {"_id": 0, "v1002": 1_002}
