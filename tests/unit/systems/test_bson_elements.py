"""Which documents are beyond doubt, and that what leads out of a document, or is there twice, is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import bson
import numpy as np
import polars as pl
import pytest
from bson import ObjectId

from streamcore.systems.bson_columns import column_of
from streamcore.systems.bson_documents import Documents
from streamcore.systems.bson_elements import BsonBytes, Field, walk

FEW = 4


def documents_of(documents: Sequence[bytes]) -> Documents:
    """*documents* as a server sends them."""
    array = document(*(element(3, b"%d" % number, one) for number, one in enumerate(documents)))
    return Documents.of_batch(document(element(4, b"firstBatch", array), element(18, b"id", bytes(8))))


def walked(documents: Sequence[bytes], few: int = FEW) -> tuple[BsonBytes, dict[str, Field], list[bool]]:
    found = documents_of(documents)
    source = BsonBytes(found.data)
    fields, sure = walk(source, found.starts, found.ends, few)
    return source, dict(fields), sure.tolist()


def column(data: Sequence[bytes], name: str, dtype: pl.DataType) -> list[object]:
    source, fields, sure = walked(data)
    made = column_of(source, fields[name], np.array(sure), dtype)
    assert made is not None
    assert not made[1].any()
    return made[0].to_list()


def test_documents_that_lack_fields_or_have_others_are_walked_together() -> None:
    shapes: list[dict[str, object]] = [{"a": 1, "b": "x", "c": True}, {"a": 2.5, "c": None}, {"c": False}, {}]
    data = [bson.encode(shape) for shape in shapes * FEW]
    assert column(data, "a", pl.Float64()) == [1.0, 2.5, None, None] * FEW
    assert column(data, "b", pl.String()) == ["x", None, None, None] * FEW
    assert column(data, "c", pl.Boolean()) == [True, None, False, None] * FEW


@pytest.mark.parametrize("length", range(30))
def test_texts_of_any_length_are_what_they_are(length: int) -> None:
    texts = ["ä" * n + "x" * (length - 2 * n) for n in range(length // 2 + 1)]
    data = [bson.encode({"t": text}) for text in texts for _ in range(FEW)]
    assert column(data, "t", pl.String()) == [text for text in texts for _ in range(FEW)]


def test_ids_and_times_have_the_texts_that_python_gives() -> None:
    ids, now = [ObjectId() for _ in range(FEW)], dt.datetime(2026, 1, 1, 12, 0, 0, 5000, dt.timezone.utc)
    data = [bson.encode({"_id": _id, "at": now}) for _id in ids]
    assert column(data, "_id", pl.String()) == list(map(str, ids))
    assert column(data, "at", pl.Datetime("us", "UTC")) == [now] * FEW


def test_what_is_nested_is_looked_into() -> None:
    good = {"d": {"list": [1, 2.5, {"t": "x"}], "at": dt.datetime(2026, 1, 1)}, "n": 7}
    bad = bson.encode({"d": {"list": [1, float("nan"), {"t": "x"}], "at": dt.datetime(2026, 1, 1)}, "n": 7})
    broken = bson.encode(good).replace(b"\x02\0\0\0x", b"\x02\0\0\0\xff")
    _, _, sure = walked([bson.encode(good), bad, broken] * FEW)
    assert sure == [True, False, False] * FEW


def element(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + name + b"\0" + value


def document(*elements: bytes, end: bytes = b"\0") -> bytes:
    body = b"".join(elements) + end
    return (len(body) + 4).to_bytes(4, "little") + body


ONE = element(16, b"a", b"\1\0\0\0")
ODD = {
    "a field twice": document(ONE, ONE),
    "a text that is longer than its document": document(element(2, b"a", b"\x7f\0\0\0x\0")),
    "a text of a negative length": document(element(2, b"a", b"\xff\xff\xff\xff\0")),
    "a text without its zero byte": document(element(2, b"a", b"\2\0\0\0xy")),
    "a text that is no UTF-8": document(element(2, b"a", b"\3\0\0\0\xc3\x28\0")),
    "a surrogate": document(element(2, b"a", b"\4\0\0\0\xed\xa0\x80\0")),
    "a name that is no UTF-8": document(element(16, b"\xff", b"\1\0\0\0")),
    "a number that is cut off": document(element(18, b"a", b"\1\0")),
    "a boolean that is neither": document(element(8, b"a", b"\2")),
    "no zero byte at the end": document(ONE, end=b"\1"),
    "a type that there is not": document(element(99, b"a", b"\1\0\0\0")),
    "a regular expression": document(element(11, b"a", b"x\0i\0")),
    "a document that ends behind its parent": document(element(3, b"a", b"\xff\0\0\0\0")),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_is_odd_is_left_to_who_reads_it_by_itself(odd: bytes) -> None:
    plain = document(ONE)
    _, fields, sure = walked([plain, odd] * FEW + [plain])
    assert sure == [True, False] * FEW + [True]
    assert (fields["a"].types[::2] == 16).all()


def test_where_few_agree_nothing_is_walked() -> None:
    _, _, sure = walked([bson.encode({"a": 1})] * (FEW - 1) + [bson.encode({"b": 1})] * FEW)
    assert sure == [False] * (FEW - 1) + [True] * FEW


@pytest.mark.parametrize("one", [b"\0\0\0\0", b"\4\0\0\0", b"\x10\0\0\0\0", b"\xff\xff\xff\xff\0"])
def test_what_is_no_document_is_an_error(one: bytes) -> None:
    with pytest.raises(ValueError, match="no BSON"):
        documents_of([one])
    with pytest.raises(ValueError, match="no BSON"):
        Documents.of_array(document(element(16, b"0", b"\1\0\0\0")))
    with pytest.raises(ValueError, match="no cursor"):
        Documents.of_batch(document(element(18, b"id", bytes(8))))


def test_documents_are_cut_by_their_bytes_and_are_the_same() -> None:
    whole = [bson.encode({"n": n, "t": "x" * (n % 120)}) for n in range(1_200)]
    found = documents_of(whole)
    pieces = list(found.cut(1_000, beside=10))
    assert [piece.pick([place]) for piece in pieces for place in range(len(piece))] == whole
    assert all(len(piece) == 1 or len(piece.data) + 10 * len(piece) <= 1_200 for piece in pieces)
    assert len(pieces) > 5
    assert not len(found.part(0, 0))
