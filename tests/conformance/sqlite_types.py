"""SQLite's tables of types, as data: see :mod:`tests.conformance.type_tables`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import polars as pl
from hypothesis import strategies as st

from tests.conformance.type_tables import (
    BOOL,
    DECIMALS,
    FINE,
    FINITE,
    HALVES,
    INTEGERS,
    MICROSECONDS,
    NESTED,
    NOT_FINITE,
    NULLS,
    RECENT,
    SPANS,
    TEXT,
    UTC,
    Found,
    Line,
    Sent,
    Strategy,
    cut,
    in_single,
    in_utc,
    nested,
    plainly,
    texts,
    within,
)  # fmt: skip

LONGEST = 2**63 - 1
UNTYPED = ""


def made(one: Sent, declared: str, *others: str) -> Sent:
    """A column that the sink declares so; all go into one without a type, as they are."""
    return replace(one, made=declared, fits=dict.fromkeys([declared, *others, UNTYPED], one))


def whole_numbers(one: Sent) -> Sent:
    one = within(one, -(2**63), LONGEST)
    exact = within(one, -(2**53), 2**53)
    column = made(one, "integer", "bigint", "numeric")
    return replace(column, fits={**column.fits, "real": exact, "double": exact})


def as_whole(values: pl.Series) -> pl.Series:
    return values.cast(pl.Int64)


def in_micros(values: pl.Series) -> pl.Series:
    return values.dt.total_microseconds()


SHORT = Sent(pl.Decimal(15, 4), st.decimals(-(10**10), 10**10, places=4))
AS_FLOAT = replace(SHORT, read=pl.Float64(), back=lambda values: values.cast(pl.Float64))
PLACES = ("text", "varchar(8)")
DAYS = Sent(pl.Date(), st.dates())
TIMES = Sent(pl.Time(), st.times())

SQLITE = (
    Line(
        ("integers", "`integer`", "the same", "integer, numeric; real, which is exact up to 2^53"),
        {
            **{name: whole_numbers(one) for name, one in INTEGERS.items()},
            "above": Sent(
                pl.UInt64(), st.integers(2**63, 2**64 - 1), made="integer", code="numeric_value_out_of_range"
            ),
        },
    ),
    Line(
        ("bool", "`integer`: 0, 1", "int64", "integer, numeric"),
        {"bool": made(replace(BOOL["bool"], read=pl.Int64(), back=as_whole), "integer", "bigint", "boolean")},
    ),
    Line(
        ("duration", "`integer`: microseconds", "int64", "integer"),
        {
            "span": made(Sent(pl.Duration("us"), SPANS, pl.Int64(), in_micros), "integer", "bigint"),
        },
    ),
    Line(
        ("floats", "`real`", "the same; NaN is refused", "real, numeric"),
        {
            **{name: made(one, "real", "double", "numeric") for name, one in FINITE.items()},
            "infinite": made(
                Sent(pl.Float64(), st.sampled_from([float("inf"), float("-inf")])), "real", "double"
            ),
            "half": made(Sent(pl.Float16(), HALVES, pl.Float32(), in_single), "real", "double", "numeric"),
            "nan": Sent(
                pl.Float64(), NOT_FINITE.filter(lambda one: one != one), made="real", code="not_a_number"
            ),
        },
    ),
    Line(
        ("string, enum, categorical", "`text`", "string", "text"),
        {name: made(one, *PLACES) for name, one in texts(TEXT).items()},
    ),
    Line(
        ("binary", "`blob`", "the same", "blob"),
        {"bytes": made(Sent(pl.Binary(), st.binary(max_size=20)), "blob")},
    ),
    Line(
        (
            "date, time, datetime",
            "`text`: `2024-12-31`, `23:59:59.000000`, `2024-12-31T23:59:59.000000`, "
            "with `+00:00` where it has a zone",
            "the same, in UTC; parts of a microsecond are cut off",
            "text, numeric",
        ),
        {
            "day": made(DAYS, *PLACES, "date"),
            "time": made(TIMES, *PLACES, "numeric"),
            "moment": Sent(pl.Time(), FINE, back=cut, made="text"),
            "naive": made(Sent(pl.Datetime("us"), st.datetimes()), *PLACES, "datetime"),
            "utc": made(Sent(MICROSECONDS, st.datetimes(timezones=st.just(UTC))), *PLACES, "datetime"),
            "zone": made(
                Sent(pl.Datetime("ns", "Asia/Tokyo"), RECENT, MICROSECONDS, in_utc), *PLACES, "datetime"
            ),
            "fine": Sent(pl.Datetime("ns"), FINE, pl.Datetime("us"), cut, made="text"),
        },
    ),
    Line(
        ("decimal", "`text`", "the same; of numeric float64", "text; numeric, up to 15 digits"),
        {
            **{name: made(one, *PLACES) for name, one in DECIMALS.items()},
            "short": replace(SHORT, made="text", fits=dict.fromkeys(("numeric", "decimal(15,4)"), AS_FLOAT)),
        },
    ),
    Line(
        ("lists, arrays, maps, structs", "`text`: JSON", "string", "text"),
        {
            **{name: made(nested(one.dtype, one.values), *PLACES) for name, one in NESTED.items()},
            "map": made(
                nested(
                    pl.Map(pl.String(), pl.Int64()), st.dictionaries(TEXT, st.integers(-9, 9), max_size=3)
                ),
                *PLACES,
            ),
            "array": made(
                nested(pl.Array(pl.Int64(), 2), st.lists(st.integers(-9, 9), min_size=2, max_size=2)), *PLACES
            ),
        },
    ),
    Line(
        ("null", "`text`", "null", "every type"),
        {
            "null": made(
                NULLS["null"],
                *PLACES,
                "integer",
                "bigint",
                "boolean",
                "numeric",
                "real",
                "double",
                "blob",
                "date",
                "datetime",
                "decimal(15,4)",
            )
        },
    ),
)
"""From the stream, and back by our own source; the last cells are the affinities that take it too."""


class Sql(str):
    """A constant as it is written in SQL."""


def column(
    declared: Iterable[str], values: Strategy, dtype: pl.DataType, read: Callable[[object], object] = plainly
) -> tuple[Found, ...]:
    return tuple(Found(values, {dtype: read}, declared=one) for one in declared)


def refused(declared: str, dtype: pl.DataType, *values: object) -> tuple[Found, ...]:
    return tuple(Found(st.just(value), refused=(dtype,), declared=declared) for value in values)


WHOLE = st.integers(-(2**63), LONGEST)
BROKEN = st.integers(-(2**40), 2**40).map(lambda n: n + 0.5)
BYTES = st.binary(max_size=9)
NOT_UTF8 = Sql("cast(x'ff' as text)")

SQLITE_SOURCE = (
    Line(
        ("contains `INT`", "int64"),
        found=(
            *column(["integer", "bigint"], WHOLE, pl.Int64()),
            *refused("integer", pl.Int64(), "one", 1.5, b"1"),
        ),
    ),
    Line(
        ("contains `CHAR`, `CLOB` or `TEXT`", "string"),
        found=(
            *column(["varchar(8)", "text", "clob"], TEXT, pl.String()),
            *column(["text"], st.integers(-9, 9), pl.String(), str),
            *refused("text", pl.String(), b"a", NOT_UTF8),
        ),
    ),
    Line(
        ("contains `BLOB`", "binary"),
        found=(*column(["blob"], BYTES, pl.Binary()), *refused("blob", pl.Binary(), "a", 1)),
    ),
    Line(
        ("contains `REAL`, `FLOA` or `DOUB`", "float64"),
        found=(
            *column(["real", "float", "double"], FINITE["f64"].values, pl.Float64()),
            *column(["real"], st.integers(-9, 9), pl.Float64(), float),
            *refused("real", pl.Float64(), "one", b"1"),
        ),
    ),
    Line(
        (
            "anything else, or nothing; columns of a query",
            "that of all values: int64, float64 or binary, else string",
        ),
        found=(
            *column(["numeric", "decimal(9,2)", UNTYPED], WHOLE, pl.Int64()),
            *column(["numeric", UNTYPED], BROKEN, pl.Float64()),
            *column(["date", UNTYPED], BYTES, pl.Binary()),
            *column(["date", UNTYPED], TEXT.map(lambda text: f"t{text}"), pl.String()),
        ),
    ),
)
"""What there is in SQLite, and what the stream has of it."""
