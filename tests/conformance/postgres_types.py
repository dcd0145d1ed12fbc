"""What the stream writes into PostgreSQL, as data: see :mod:`tests.conformance.type_tables`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

import polars as pl
from hypothesis import strategies as st

from tests.conformance.type_tables import (
    BOOL,
    DECIMALS,
    FINE,
    INTEGERS,
    MICROSECONDS,
    NOT_FINITE,
    NULLS,
    RECENT,
    SPANS,
    UTC,
    Line,
    Sent,
    Strategy,
    cut,
    in_utc,
    texts,
    within,
)  # fmt: skip

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
FLOATS, SINGLES = st.floats(), st.floats(width=32)
WHOLE = st.integers(-(2**63), 2**63 - 1)
NAIVE, IN_UTC = st.datetimes(), st.datetimes(timezones=st.just(UTC))
LOCAL = pl.Datetime("us")
SETUP = "create type mood as enum ('a', 'b', '')"
MOODS = st.sampled_from(["a", "b", ""])
JSON_TEXTS = st.sampled_from(['{"a": 1}', "[1, null]", '"x"', "null"])


def whole_numbers(one: Sent, made: str) -> Sent:
    """A column of integers, and the columns that take them as far as these go."""
    into = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63, "real": 2**24, "double precision": 2**53}
    fits = {kind: within(one, -limit, limit - 1) for kind, limit in into.items()}
    return replace(one, made=made, fits=fits | {"numeric": one})


INTEGER_COLUMNS = {
    "i8": "smallint", "i16": "smallint", "i32": "integer", "i64": "bigint",
    "u8": "smallint", "u16": "integer", "u32": "bigint",
}  # fmt: skip


def floats(dtype: pl.DataType, values: Strategy, made: str) -> Sent:
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    one = Sent(dtype, values)
    narrow = {"real": replace(one, values=SINGLES), "numeric": replace(one, values=finite)}
    return replace(one, made=made, fits={**narrow, "double precision": one})


def spelled(values: pl.Series) -> pl.Series:
    return values.cast(pl.String).replace({"inf": "Infinity", "-inf": "-Infinity"})


def parsed(values: Strategy, text: Callable[[object], str], dtype: pl.DataType) -> Sent:
    """Texts that the server reads, which come back as what they say."""
    known: dict[str, object] = {}

    def remember(value: object) -> str:
        known[text(value)] = value
        return text(value)

    def back(series: pl.Series) -> pl.Series:
        return pl.Series(series.name, [None if said is None else known[said] for said in series], dtype)

    return Sent(pl.String(), values.map(remember), dtype, back)


def hexadecimal(value: object) -> str:
    assert isinstance(value, bytes)
    return "\\x" + value.hex()


def text_of(values: Strategy) -> Sent:
    return Sent(pl.String(), values)


TEXTS: Mapping[str, Sent] = {
    "text": text_of(TEXT),
    "varchar(8)": text_of(TEXT),
    "char(8)": Sent(pl.String(), TEXT, back=lambda values: values.str.pad_end(8)),
    "json": text_of(JSON_TEXTS),
    "jsonb": text_of(JSON_TEXTS),
    "mood": text_of(MOODS),
    "smallint": parsed(st.integers(-(2**15), 2**15 - 1), str, pl.Int16()),
    "integer": parsed(st.integers(-(2**31), 2**31 - 1), str, pl.Int32()),
    "bigint": parsed(WHOLE, str, pl.Int64()),
    "real": parsed(SINGLES, str, pl.Float32()),
    "double precision": parsed(FLOATS, str, pl.Float64()),
    "numeric": text_of(st.decimals(-(10**9), 10**9, places=3).map(str)),
    "boolean": parsed(st.booleans(), str, pl.Boolean()),
    "bytea": parsed(st.binary(max_size=20), hexadecimal, pl.Binary()),
    "date": parsed(st.dates(), str, pl.Date()),
    "time": parsed(st.times(), str, pl.Time()),
    "timestamp": parsed(NAIVE, str, LOCAL),
    "timestamptz": parsed(IN_UTC, str, MICROSECONDS),
    "interval": text_of(st.sampled_from(["1 mon 2 days", "-00:00:01.5"])),
    "uuid": text_of(st.uuids().map(str)),
    "inet": text_of(st.sampled_from(["10.0.0.1/32", "::1/128"])),
    "integer[]": Sent(
        pl.String(),
        st.sampled_from(["{1,NULL}", "{}"]),
        pl.List(pl.Int32()),
        lambda values: pl.Series(
            [{"{1,NULL}": [1, None], "{}": []}.get(v) for v in values], dtype=pl.List(pl.Int32())
        ),
    ),
}
"""What the server reads of texts: every type that the page names."""


def spans(values: pl.Series) -> pl.Series:
    """Durations of PostgreSQL's texts of them."""
    parts = values.str.extract_groups(r"^(-?)(\d+):(\d+):(\d+)\.?(\d*)$").struct.unnest()
    whole = [parts[str(place)].cast(pl.Int64) for place in (2, 3, 4)]
    micros = parts["5"].str.pad_end(6, "0").cast(pl.Int64)
    total = ((whole[0] * 60 + whole[1]) * 60 + whole[2]) * 1_000_000 + micros
    return (
        pl.select(pl.when(parts["1"] == "-").then(-total).otherwise(total))
        .to_series()
        .cast(pl.Duration("us"))
    )


def without_zone(values: pl.Series) -> pl.Series:
    return in_utc(values).dt.replace_time_zone(None)


def times(dtype: pl.Datetime, values: Strategy) -> Sent:
    """Times, into a column with a zone and into one without."""
    zoned = Sent(dtype, values, MICROSECONDS, in_utc)
    local = Sent(dtype, values, LOCAL, without_zone)
    made = zoned if dtype.time_zone else local
    return replace(
        made,
        made="timestamptz" if dtype.time_zone else "timestamp",
        fits={"timestamptz": zoned, "timestamp": local},
    )


def number(text: str) -> str:
    """Of one spelling: jsonb writes no exponents."""
    return str(Decimal(text).normalize() + 0)


def alike(values: pl.Series) -> pl.Series:
    """JSON texts, the same ones for the same values."""
    said = [
        None if text is None else json.dumps(json.loads(text, parse_float=number, parse_int=number))
        for text in values
    ]
    return pl.Series(values.name, said, pl.String())


def as_json(dtype: pl.DataType, values: Strategy) -> Sent:
    def back(found: pl.Series) -> pl.Series:
        said = [None if value is None else json.dumps(value) for value in found.to_list()]
        return alike(pl.Series(found.name, said, pl.String()))

    one = Sent(dtype, values, pl.String(), back, alike)
    return replace(one, made="jsonb", fits={"json": one, "jsonb": one})


LISTS = st.lists(st.none() | WHOLE, max_size=3)
DEEP = pl.Struct({"a": pl.List(pl.Int64()), "b": pl.Struct({"c": pl.String(), "d": pl.Float64()})})
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INSIDE = st.fixed_dictionaries({"c": st.none() | TEXT, "d": st.none() | FINITE})

POSTGRES = (
    Line(
        (
            "int8 to int64, uint8 to uint32",
            "`smallint` to `bigint`",
            "the same",
            "`smallint` to `bigint`, `real`, `double precision`, `numeric`",
        ),
        {name: whole_numbers(INTEGERS[name], made) for name, made in INTEGER_COLUMNS.items()},
    ),
    Line(
        ("uint64", "`numeric(20)`", "the same", "the same as of other integers"),
        {"u64": whole_numbers(INTEGERS["u64"], "numeric(20)")},
    ),
    Line(
        (
            "float32, float64",
            "`real`, `double precision`",
            "the same",
            "`real`, `double precision`, `numeric`, whose NaN and infinity are read back as string",
        ),
        {
            "f32": floats(pl.Float32(), SINGLES, "real"),
            "f64": floats(pl.Float64(), FLOATS, "double precision"),
            "odd": Sent(
                pl.Float64(),
                NOT_FINITE,
                made="double precision",
                fits={"numeric": Sent(pl.Float64(), NOT_FINITE, pl.String(), spelled)},
            ),
        },
    ),
    Line(
        ("decimal(p, s)", "`numeric(p,s)`", "the same", "`numeric`"),
        {
            "decimal": replace(
                DECIMALS["decimal"], made="numeric(38,9)", fits={"numeric": DECIMALS["decimal"]}
            ),
            "price": replace(DECIMALS["price"], made="numeric(20,2)", fits={"numeric": DECIMALS["price"]}),
        },
    ),
    Line(
        ("bool", "`boolean`", "the same", "`boolean`"),
        {"bool": replace(BOOL["bool"], made="boolean", fits={"boolean": BOOL["bool"]})},
    ),
    Line(
        (
            "string, enum, categorical",
            "`text`",
            "string",
            "texts, `json`, `jsonb`, enums; any other type, whose text the server reads",
        ),
        {
            **{name: replace(one, made="text") for name, one in texts(TEXT).items()},
            "parsed": Sent(pl.String(), TEXT, made="text", fits=TEXTS),
            "nul": Sent(pl.String(), TEXT.map(lambda text: f"{text}\0"), made="text", code="nul_in_text"),
        },
    ),
    Line(
        ("binary", "`bytea`", "the same", "`bytea`"),
        {
            "bytes": Sent(
                pl.Binary(),
                st.binary(max_size=20),
                made="bytea",
                fits={"bytea": Sent(pl.Binary(), st.binary(max_size=20))},
            )
        },
    ),
    Line(
        ("date", "`date`", "the same", "`date`"),
        {"day": Sent(pl.Date(), st.dates(), made="date", fits={"date": Sent(pl.Date(), st.dates())})},
    ),
    Line(
        ("time", "`time`", "the same; parts of a microsecond are cut off", "`time`"),
        {
            "time": Sent(pl.Time(), st.times(), made="time", fits={"time": Sent(pl.Time(), st.times())}),
            "moment": Sent(pl.Time(), FINE, back=cut, made="time"),
        },
    ),
    Line(
        (
            "datetime",
            "`timestamp`, with a zone `timestamptz`",
            "datetime, with a zone in UTC; parts of a microsecond are cut off",
            "`timestamp`, which has UTC's, `timestamptz`",
        ),
        {
            "naive": times(LOCAL, NAIVE),
            "utc": times(MICROSECONDS, IN_UTC),
            "zone": times(pl.Datetime("ns", "Asia/Tokyo"), RECENT),
            "fine": Sent(pl.Datetime("ns"), FINE, LOCAL, cut, made="timestamp"),
        },
    ),
    Line(
        ("duration", "`interval`", "string: `26:03:04.000005`", "`interval`"),
        {
            "span": Sent(
                pl.Duration("us"),
                SPANS,
                pl.String(),
                seen=spans,
                made="interval",
                fits={"interval": Sent(pl.Duration("us"), SPANS, pl.String(), seen=spans)},
            )
        },
    ),
    Line(
        ("lists, arrays, structs", "`jsonb`", "string: JSON", "`json`, `jsonb`"),
        {
            "list": as_json(pl.List(pl.Int64()), LISTS),
            "array": as_json(pl.Array(pl.Int64(), 2), st.lists(WHOLE, min_size=2, max_size=2)),
            "deep": as_json(DEEP, st.fixed_dictionaries({"a": st.none() | LISTS, "b": INSIDE})),
        },
    ),
    Line(
        ("null", "`text`", "null", "every type"),
        {"null": replace(NULLS["null"], made="text", fits=dict.fromkeys(TEXTS, NULLS["null"]))},
    ),
)
"""From the stream, and back by our own source; the last cells are the columns that take it too."""
