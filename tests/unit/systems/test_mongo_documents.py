"""BSON to JSON texts, without a server: every type, what is refused, and ids that survive as text."""

from __future__ import annotations

import datetime as dt
import math
import uuid

import orjson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp, encode
from bson.codec_options import CodecOptions, UuidRepresentation
from hypothesis import given
from hypothesis import strategies as st

from streamcore.batch import PartitionId, RecordChunk
from streamcore.errors import BadConfig
from streamcore.formats import decoder_for
from streamcore.formats.json import Json
from streamcore.schema import StreamSchema
from streamcore.systems.mongo_documents import Reply, id_of, id_text, one_by_one, query_of

OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
OID = ObjectId("507f1f77bcf86cd799439011")
UID = uuid.UUID("6f1c2a52-8a3a-4f41-9a6e-0123456789ab")
UTC = dt.timezone.utc
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123000)

TYPES: dict[str, tuple[object, object, str, object]] = {
    # a value, its JSON, a type of the stream, the value there
    "whole": (7, 7, "int32", 7),
    "large": (Int64(2**63 - 1), 2**63 - 1, "int64", 2**63 - 1),
    "real": (0.1, 0.1, "float64", 0.1),
    "yes": (True, True, "bool", True),
    "text": ("Zoë\n\0", "Zoë\n\0", "string", "Zoë\n\0"),
    "instant": (NOON, "2024-02-29T12:00:00.123000Z", "datetime", NOON.replace(tzinfo=UTC)),
    "oid": (OID, str(OID), "string", str(OID)),
    "price": (Decimal128("-1.10"), "-1.10", "string", "-1.10"),
    "uuid": (UID, str(UID), "string", str(UID)),
    "bytes": (b"\x00\xff", "AP8=", "string", "AP8="),
    "hash": (Binary(b"ab", 5), "YWI=", "string", "YWI="),
    "nothing": (None, None, "string", None),
    "code": (Code("f()"), "f()", "string", "f()"),
}


def bson_of(*documents: dict[str, object]) -> bytes:
    return b"".join(encode({"_id": n, **d}, codec_options=OPTIONS) for n, d in enumerate(documents))


def reply_of(data: bytes, with_id: bool) -> Reply:
    reply, (documents, broken) = Reply([], [], {}), one_by_one(data)
    reply.add(documents, () if with_id else ("_id",), broken)
    return reply


def test_every_type_has_its_json_and_its_column() -> None:
    data = bson_of({name: value for name, (value, *_) in TYPES.items()})
    (text,) = reply_of(data, with_id=False).texts
    assert orjson.loads(text) == {name: shown for name, (_, shown, *_) in TYPES.items()}
    schema = StreamSchema.from_columns({name: dtype for name, (*_, dtype, _) in TYPES.items()})
    decoded = decoder_for(Json(), schema).decode(RecordChunk(PartitionId("t", 0, "t"), [0], [text]))
    assert not len(decoded.rejects), decoded.rejects.frame
    (row,) = decoded.frame.select(list(TYPES)).to_dicts()
    assert row == {name: value for name, (*_, value) in TYPES.items()}


def test_a_decimal_column_takes_decimals_exactly() -> None:
    schema = StreamSchema.from_columns({"price": "decimal"})
    (text,) = reply_of(bson_of({"price": Decimal128("12345678901234567890.123456789")}), False).texts
    decoded = decoder_for(Json(), schema).decode(RecordChunk(PartitionId("t", 0, "t"), [0], [text]))
    assert str(decoded.frame["price"][0]) == "12345678901234567890.123456789"


def test_documents_and_lists_stay_what_they_are() -> None:
    nested = {"a": {"b": [1, {"c": OID}, []], "d": {}}}
    (text,) = reply_of(bson_of(nested), with_id=True).texts
    assert orjson.loads(text) == {"_id": 0, "a": {"b": [1, {"c": str(OID)}, []], "d": {}}}


@pytest.mark.parametrize("value", [Regex("a.*", "i"), MaxKey(), Timestamp(1, 2), Code("f()", {"a": 1})])
def test_what_json_has_not_is_mongodbs_own_json(value: object) -> None:
    (text,) = reply_of(bson_of({"v": value}), with_id=False).texts
    names = list(orjson.loads(text)["v"])
    assert names
    assert all(name.startswith("$") for name in names)


def test_a_date_beyond_pythons_is_no_other_date() -> None:
    far = encode({"_id": 0, "at": dt.datetime(9999, 12, 31)})
    later = far.replace((253402214400000).to_bytes(8, "little"), (999999999999999).to_bytes(8, "little"))
    (text,) = reply_of(later, with_id=False).texts
    assert orjson.loads(text) == {"at": {"$date": {"$numberLong": "999999999999999"}}}
    schema = StreamSchema.from_columns({"at": "datetime"})
    decoded = decoder_for(Json(), schema).decode(RecordChunk(PartitionId("t", 0, "t"), [0], [text]))
    assert len(decoded.rejects) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, {"x": math.nan}]])
def test_a_number_that_is_not_finite_is_refused_and_its_neighbours_are_not(value: object) -> None:
    documents = [{"v": -1, "w": None}, {"v": value, "w": -2}, {"v": 2.5, "w": None}]
    reply = reply_of(bson_of(*documents), with_id=False)
    assert {place: why.code for place, why in reply.refused.items()} == {1: "range"}
    assert reply.refused[1].bson == encode({"_id": 1, **documents[1]})
    assert [orjson.loads(text)["v"] for text in (reply.texts[0], reply.texts[2])] == [-1, 2.5]
    assert reply.ids == [0, 1, 2]


def test_text_that_is_not_utf8_is_refused_and_its_neighbours_are_not() -> None:
    broken = encode({"_id": 1, "v": "abc"}).replace(b"abc", b"a\xffc")
    reply = reply_of(bson_of({"v": "x"}) + broken + encode({"_id": 2, "v": "y"}), with_id=True)
    assert {place: (why.code, why.bson) for place, why in reply.refused.items()} == {1: ("encoding", broken)}
    assert reply.ids == [0, 1, 2]
    assert [orjson.loads(text)["v"] for text in (reply.texts[0], reply.texts[2])] == ["x", "y"]


ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
    ),
    st.dictionaries(st.text("abc", min_size=1), st.integers(-9, 9), max_size=3),
)


@given(value=ids)
def test_an_id_survives_as_text(value: object) -> None:
    (read,) = reply_of(encode({"_id": value}, codec_options=OPTIONS), with_id=True).ids
    again = encode({"_id": id_of(id_text(read))}, codec_options=OPTIONS)
    assert again == encode({"_id": read}, codec_options=OPTIONS)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"a"'])
def test_a_filter_must_be_an_object(text: str) -> None:
    with pytest.raises(BadConfig, match="filter"):
        query_of(text, "here")
    assert query_of('{"at": {"$gt": {"$oid": "507f1f77bcf86cd799439011"}}}', "here") == {"at": {"$gt": OID}}
