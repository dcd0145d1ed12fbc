"""Columns that are made of BSON are those that its JSON gives, row by row, and so is what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from batch_adapters import bson_documents
from batch_adapters.bson_documents import BsonPage
from batch_adapters.documents import DocumentsChunk, RefusedDocument
from streamcore.batch import PartitionId
from streamcore.formats import decoder_for
from streamcore.formats.json import Json
from streamcore.schema import StreamSchema
from tests.unit.systems.test_bson_elements import documents_of

SOURCE = PartitionId("t", 0, "t")
OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
TYPES = [
    "int8",
    "int64",
    "uint64",
    "float32",
    "float64",
    "bool",
    "string",
    "datetime",
    "date",
    "decimal",
    "binary",
]
_AGAIN = 3
"""Each document comes so often, and where fewer agree no step is taken."""
NAMES = ["a", "b", "a longer name", "_id"]
whole = st.one_of(
    st.sampled_from([0, 127, 128, -129, 2**31 - 1, -(2**31), Int64(7)]),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
)
real = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, 2.0**60, 1e300]))
milliseconds = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
decimals = st.decimals(-(10**9), 10**9, places=3, allow_nan=False).map(Decimal128)
odd = st.sampled_from(
    [
        Code("f()"),
        Regex("a", "i"),
        Timestamp(1, 2),
        Binary(b"ab", 5),
        Decimal128(Decimal("NaN")),
        bson.MinKey(),
    ]
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    whole,
    real,
    st.text(max_size=20),
    st.text("0123456789-.e", max_size=14),
    st.binary(max_size=20),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    milliseconds,
    decimals,
    odd,
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner)),
)
documents = st.dictionaries(st.sampled_from(NAMES[:-1]), values).map(lambda one: {"_id": 7, **one})


def page_of(shapes: Sequence[Mapping[str, object]], broken: bool) -> BsonPage:
    """Each of *shapes* so often that it is walked; *broken*: the last text of some is not UTF-8."""
    encoded = [bson.encode(one, codec_options=OPTIONS) for one in shapes]
    if broken:
        encoded.append(bson.encode({"_id": 7, "b": "text"}).replace(b"text", b"te\xfft"))
    return BsonPage(documents_of(encoded * _AGAIN), ("_id",))


@settings(deadline=None)
@given(st.lists(documents, min_size=1, max_size=4), st.data(), st.booleans())
def test_columns_of_bson_are_those_of_its_json(
    shapes: list[dict[str, object]], data: st.DataObject, broken: bool
) -> None:
    columns = data.draw(
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TYPES), min_size=1), label="columns"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bson_documents, "FEW", _AGAIN)
        check(columns, page_of(shapes, broken))


def check(columns: Mapping[str, str], page: BsonPage) -> None:
    """The decoder makes the same of the BSON of *page* as of its JSON."""
    reply = page.reply(range(len(page.documents)))
    refused = {place: RefusedDocument(*why) for place, why in reply.refused.items()}
    by_text, by_bson = DocumentsChunk(SOURCE, 5, reply.texts, refused), page.chunk(SOURCE, 5)
    assert by_bson.values() == by_text.values()
    decoder = decoder_for(Json(), StreamSchema.from_columns(columns))
    wanted, found = decoder.decode(by_text), decoder.decode(page.chunk(SOURCE, 5))
    assert_frame_equal(found.frame, wanted.frame)
    assert_frame_equal(found.rejects.frame, wanted.rejects.frame)
    for offset in found.rejects.frame["_offset"].unique().head(3):
        assert by_bson.original(offset) == by_text.original(offset)
