"""Every format of the catalogue keeps the laws of its contract."""

from __future__ import annotations

import datetime as dt

import polars as pl

from streamcore.formats import FORMATS, Arrow, Avro, Json, Raw
from streamcore.schema import StreamSchema
from streamcore.testing.formats import FormatConformance

SCHEMA = StreamSchema.from_columns(
    {
        "id": "int64",
        "small": "int16",
        "name": "string",
        "share": "float64",
        "ok": "bool",
        "at": "datetime",
        "local": "naive_datetime",
        "day": "date",
        "hour": "time",
        "price": "decimal",
        "data": "binary",
    },
    required=frozenset({"id"}),
)


def rows(count: int) -> pl.DataFrame:
    """Values of every type, nulls and texts that look like other types among them."""
    index = pl.int_range(count, eager=True)
    start = dt.datetime(2026, 1, 1, 12)
    texts = pl.Series(["5", "true", "[1]", "é\n", '"', "\\ud800", "a:b", "", None, "x"] * (count // 10 + 1))
    frame = pl.DataFrame(
        {
            "id": index * 2**40 - 5,
            "small": index % 100,
            "name": texts.head(count).cast(pl.String),
            "share": index / 7,
            "ok": index % 2 == 0,
            "at": pl.Series([start] * count, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "local": pl.Series(
                [start + dt.timedelta(microseconds=i) for i in range(count)], dtype=pl.Datetime("us")
            ),
            "day": pl.Series([start.date()] * count, dtype=pl.Date),
            "hour": pl.Series([start.time()] * count, dtype=pl.Time),
            "price": index.cast(pl.Decimal(38, 9)) / 8,
            "data": pl.Series([bytes([i % 256, 0]) for i in range(count)], dtype=pl.Binary),
        }
    )
    return frame.cast(dict(SCHEMA.columns))


class TestJson(FormatConformance):
    form = Json()
    schema = SCHEMA
    garbage = (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"id": 1}{"id": 2}',
        b'{"id": "1"}',
        b"\xff",
        b'{"id": 1.5}',
        b"{}",
        None,
    )

    def frame(self, count: int) -> pl.DataFrame:
        return rows(count)


class TestNdjson(TestJson):
    form = Json(lines=True)
    garbage = (b"", b"{", b"[]", b"null", b'{"id": "1"}', b"\xff", b"\n \n", None)
    several = True

    def message(self, rows: pl.DataFrame) -> bytes:
        return b"\n".join(self.form.encode(rows).to_pylist())


class TestJsonArray(TestJson):
    form = Json(array=True)
    garbage = (b"", b"[{", b"[]", b"null", b'[{"id": "1"}]', b"\xff", b"{}", None)
    several = True

    def message(self, rows: pl.DataFrame) -> bytes:
        return b"[" + b" ,\n".join(v[1:-1] for v in self.form.encode(rows).to_pylist()) + b"]"


class TestArrow(FormatConformance):
    form = Arrow()
    schema = SCHEMA
    garbage = (b"", b"ARROW1", b"\xff\xff\xff\xff\x00", None)
    several = True

    def frame(self, count: int) -> pl.DataFrame:
        return rows(count)

    def message(self, rows: pl.DataFrame) -> bytes:
        return Arrow().message(rows)


class TestAvro(FormatConformance):
    form = Avro()
    schema = SCHEMA
    garbage = (b"", b"\x00", b"{", b"\xff" * 40, None)

    def frame(self, count: int) -> pl.DataFrame:
        return rows(count)


class TestRaw(FormatConformance):
    form = Raw()
    schema = StreamSchema.from_columns({"value": "binary", "key": "binary"})

    def frame(self, count: int) -> pl.DataFrame:
        values = [bytes([i % 256]) * i for i in range(count)]
        return pl.DataFrame({"value": values, "key": [None] * count}, schema=self.schema.columns)


def test_no_format_of_the_catalogue_is_left_out() -> None:
    tested = {
        TestJson.form.name,
        TestNdjson.form.name,
        TestJsonArray.form.name,
        TestArrow.form.name,
        TestAvro.form.name,
        TestRaw.form.name,
    }
    assert tested == set(FORMATS)
