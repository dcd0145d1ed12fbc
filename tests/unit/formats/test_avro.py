"""Avro: what fastavro writes we read and the other way round, schemas by their ids, and those refused."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest

import streamcore as sc
from streamcore.asking import Asked, answered, decoding
from streamcore.batch import HIDDEN, OFFSET, PartitionId, RecordChunk
from streamcore.contracts import Decoded
from streamcore.errors import BadConfig, Permanent
from streamcore.formats import Avro, decoder_for
from streamcore.formats.avro_decoder import SCHEMAS
from streamcore.formats.avro_schema import WriterSchema, schema_of
from streamcore.references import SchemaRegistry
from streamcore.schema import StreamSchema

SOURCE = PartitionId("t", 0, "x")
REGISTRY = SchemaRegistry("http://127.0.0.1:1")


class User(sc.Event):
    id: int
    name: str | None = None
    level: int = 7


def schema(*fields: tuple[str, object]) -> str:
    return json.dumps(
        {"type": "record", "name": "User", "fields": [{"name": n, "type": t} for n, t in fields]}
    )


OLD = schema(("id", "int"))
NEW = schema(("id", "long"), ("name", ["null", "string"]), ("level", "long"), ("more", "string"))


def body(text: str, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(text)), row)
    return out.getvalue()


def framed(number: int, record: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + record


def decode(
    form: Avro,
    values: Sequence[bytes | None],
    known: dict[int, str] | None = None,
    event: type[sc.Event] = User,
) -> tuple[Decoded, list[list[int]]]:
    """What comes of *values*, and the ids that were asked for."""
    asked: list[list[int]] = []

    def answer(question: Asked) -> pl.DataFrame:
        asked.append(question.keys["id"].to_list())
        rows = [(one, (known or {})[one], []) for one in asked[-1] if one in (known or {})]
        return pl.DataFrame(rows, schema=SCHEMAS, orient="row")

    decoder = decoder_for(form, StreamSchema.of(event))
    chunk = RecordChunk(SOURCE, range(len(values)), values)
    first = answered(decoding(decoder, chunk), answer)
    again = answered(decoding(decoder, chunk), answer)
    assert again.frame.equals(first.frame)
    return first, asked


@pytest.mark.parametrize("repeat", [1, 40], ids=["few", "many"])
def test_records_of_several_schemas_meet_the_events_columns_by_name(repeat: int) -> None:
    new = {"id": 2, "name": "b", "level": 3, "more": "ignored"}
    values = [framed(1, body(OLD, {"id": 1})), framed(2, body(NEW, new))] * repeat
    decoded, asked = decode(Avro(REGISTRY), values, {1: OLD, 2: NEW})
    assert decoded.frame.drop(HIDDEN).rows() == [(1, None, 7), (2, "b", 3)] * repeat
    assert decoded.frame[OFFSET].to_list() == list(range(2 * repeat))
    assert asked == [[1, 2]], "each id is asked for once, and known for good"


def test_what_is_no_record_is_a_reject_with_its_reason() -> None:
    good = framed(1, body(OLD, {"id": 1}))
    bad: dict[bytes | None, str] = {
        None: "tombstone",
        b"": "framing",
        b"{}": "framing",
        framed(9, b"\x02"): "schema_id",
        framed(3, b"\x02"): "writer_schema",
        framed(1, b""): "avro",
        good + b"\x00": "avro",
        framed(4, b"\x02x"): "schema",
    }
    values = [*bad, *[good] * 30]
    no_id = schema(("other", "string"))
    decoded, asked = decode(Avro(REGISTRY), values, {1: OLD, 3: '{"type": "nonsense"}', 4: no_id})
    found = dict(decoded.rejects.frame.select(OFFSET, "code").iter_rows())
    assert found == dict(enumerate(bad.values()))
    assert decoded.frame.height == 30
    assert asked == [[1, 3, 4, 9], [9]], "an id that was not there may come to be there"


def test_a_schema_without_a_registry_is_the_messages_or_that_of_the_columns() -> None:
    values = [body(OLD, {"id": number}) for number in range(50)]
    decoded, asked = decode(Avro(schema=OLD), values)
    assert decoded.frame["id"].to_list() == list(range(50))
    assert not asked
    mine = Avro().encode(pl.DataFrame({"id": [1, None], "name": ["x", "y"], "level": [1, 2]}))
    decoded, _ = decode(Avro(), mine.to_pylist())
    assert decoded.frame.drop(HIDDEN).rows() == [(1, "x", 1)]
    assert decoded.rejects.frame[OFFSET].to_list() == [1]


class Many(sc.Event):
    id: int
    at: dt.datetime
    day: dt.date
    price: Decimal
    tags: list[str]
    share: float
    kind: str
    raw: bytes


WRITTEN = schema(
    ("id", "long"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("day", {"type": "int", "logicalType": "date"}),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}),
    ("tags", {"type": "array", "items": "string"}),
    ("share", "float"),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}),
    ("raw", {"type": "fixed", "name": "Four", "size": 4}),
)


@pytest.mark.parametrize("few", [True, False], ids=["by rows", "in columns"])
@pytest.mark.parametrize("extra", [(), ("labels", {"type": "map", "values": "string"})], ids=["plain", "map"])
def test_logical_types_are_the_events(few: bool, extra: tuple[str, object] | tuple[()]) -> None:
    text = schema(
        *((f["name"], f["type"]) for f in json.loads(WRITTEN)["fields"]), *([extra] if extra else [])
    )
    row = {
        "id": 5,
        "at": dt.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.timezone.utc),
        "day": dt.date(2026, 2, 28),
        "price": Decimal("-1.280"),
        "tags": ["a", ""],
        "share": 0.5,
        "kind": "B",
        "raw": b"\x00\x01\x02\xff",
        "labels": {"x": "y"},
    }
    decoded, _ = decode(Avro(schema=text), [body(text, row)] * (3 if few else 100), event=Many)
    assert not len(decoded.rejects)
    assert decoded.frame[0].drop(HIDDEN).row(0, named=True) == {k: row[k] for k in row if k != "labels"}


def test_fastavro_reads_what_is_written() -> None:
    frame = pl.DataFrame(
        {
            "i8": pl.Series([-128, None], dtype=pl.Int8),
            "u32": pl.Series([2**32 - 1, 0], dtype=pl.UInt32),
            "u64": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
            "price": pl.Series([Decimal("0.00"), Decimal("-12.34")], dtype=pl.Decimal(10, 2)),
            "at": pl.Series([dt.datetime(2026, 1, 1), None]).dt.replace_time_zone("UTC"),
            "hour": [dt.time(1, 2, 3, 4), dt.time(0)],
            "kind": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])),
            "list": [[1, None], []],
            "inner": [{"x": 1, "y": ["a"]}, None],
        }
    )
    parsed = fastavro.parse_schema(json.loads(schema_of(frame.schema)))
    values = Avro().encode(frame).to_pylist()
    rows = [fastavro.schemaless_reader(io.BytesIO(value), parsed, None) for value in values]
    assert rows == [
        {
            "i8": -128,
            "u32": 2**32 - 1,
            "u64": Decimal(2**64 - 1),
            "price": Decimal("0.00"),
            "at": dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),
            "hour": dt.time(1, 2, 3, 4),
            "kind": "a",
            "list": [1, None],
            "inner": {"x": 1, "y": ["a"]},
        },
        {
            "i8": None,
            "u32": 0,
            "u64": Decimal(0),
            "price": Decimal("-12.34"),
            "at": None,
            "hour": dt.time(0),
            "kind": "b",
            "list": [],
            "inner": None,
        },
    ]
    assert all(
        len(body(schema_of(frame.schema), row)) == len(value) for row, value in zip(rows, values, strict=True)
    )


RECURSIVE = '{"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no Avro schema"),
        ('"string"', "a record, got 'string'"),
        (schema(("a", "Other")), "does not define, got 'Other'"),
        (RECURSIVE, "recursive"),
        (schema(("a", {"type": "array", "items": "null"})), "without bytes"),
        (
            schema(("a", {"type": "array", "items": {"type": "fixed", "name": "E", "size": 0}})),
            "without bytes",
        ),
    ],
)
def test_schemas_that_are_none_or_not_safe_are_refused(text: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        WriterSchema.of(text)


def test_a_schema_that_grows_without_bound_when_written_out_is_refused() -> None:
    inner: object = "long"
    fields: list[tuple[str, object]] = [("f0", {"type": "record", "name": "R0", "fields": []})]
    inner = {"type": "record", "name": "R1", "fields": [{"name": f"a{n}", "type": "long"} for n in range(10)]}
    fields = [("f1", inner)]
    for level in range(2, 7):
        named = [{"name": f"a{n}", "type": f"R{level - 1}"} for n in range(10)]
        fields.append((f"f{level}", {"type": "record", "name": f"R{level}", "fields": named}))
    with pytest.raises(BadConfig, match="too many parts"):
        WriterSchema.of(schema(*fields))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Avro(REGISTRY, schema=OLD), "leave schema away"),
        (lambda: Avro(schema="{"), "no Avro schema"),
        (lambda: schema_of(pl.Schema({"a b": pl.Int64()})), "can't be a name"),
        (lambda: schema_of(pl.Schema({"a": pl.Duration()})), "does not have"),
        (lambda: schema_of(pl.Schema({"a": pl.List(pl.Decimal(10, 2))})), "does not have"),
    ],
)
def test_wrong_declarations_say_what_is_wrong(make: Callable[[], object], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        make()


def test_nothing_is_written_before_the_schema_is_registered() -> None:
    form = Avro(REGISTRY)
    assert len(form.encode(pl.DataFrame(schema={"id": pl.Int64}))) == 0
    with pytest.raises(Permanent, match="registered"):
        form.encode(pl.DataFrame({"id": [1]}))
