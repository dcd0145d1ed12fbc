"""MongoDB's tables of types, as data: see :mod:`tests.conformance.type_tables`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

from tests.conformance.type_tables import (
    BOOL,
    DECIMALS,
    DEEP,
    DEEP_VALUES,
    FINITE,
    INTEGERS,
    MICROSECONDS,
    MIDDAY_NANOSECONDS,
    NESTED,
    NULLS,
    RECENT,
    SPANS,
    TEXT,
    UTC,
    Found,
    Line,
    Sent,
    in_utc,
    iso,
    plainly,
    texts,
)  # fmt: skip

WHOLE_MILLISECONDS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
IN_UTC = WHOLE_MILLISECONDS.map(lambda at: at.replace(tzinfo=UTC))
LARGE = st.integers(2**63, 2**64 - 1)
"""What no long of MongoDB holds."""
LONG_DECIMALS = st.integers(10**34, 10**35 - 1).map(Decimal)
FINE = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000 + 1)
)

MONGODB = (
    Line(
        ("integers", "int or long", "the same"),
        {**INTEGERS, "u64": Sent(pl.UInt64(), st.integers(0, 2**63 - 1))},
    ),
    Line(
        ("uint64 above 2^63 - 1", "refused (`range`)", ""), {"large": Sent(pl.UInt64(), LARGE, code="range")}
    ),
    Line(("floats", "double", "the same, if finite"), FINITE),
    Line(("bool", "bool", "the same"), BOOL),
    Line(("string, enum, categorical", "string", "string"), texts()),
    Line(("binary", "binary", "the same"), {"bytes": Sent(pl.Binary(), st.binary(max_size=20))}),
    Line(
        ("date", "date, at midnight in UTC", "datetime"),
        {"day": Sent(pl.Date(), st.dates(), MICROSECONDS, lambda days: in_utc(days.cast(pl.Datetime("us"))))},
    ),
    Line(
        ("datetime, in whole milliseconds", "date; in UTC, without a zone taken for UTC", "datetime"),
        {
            "at": Sent(pl.Datetime("us"), WHOLE_MILLISECONDS, MICROSECONDS, in_utc),
            "utc": Sent(pl.Datetime("us", "UTC"), IN_UTC, MICROSECONDS),
            "zone": Sent(pl.Datetime("ns", "Asia/Tokyo"), RECENT, MICROSECONDS, in_utc),
        },
    ),
    Line(
        ("datetime, finer", "refused (`precision`), or cut with `cut_times`", ""),
        {"fine": Sent(pl.Datetime("us"), FINE, code="precision")},
    ),
    Line(("decimal of up to 34 digits", "decimal", "the same"), DECIMALS),
    Line(
        ("decimal of more", "refused (`range`)", ""),
        {"long": Sent(pl.Decimal(38, 0), LONG_DECIMALS, code="range")},
    ),
    Line(
        ("time", "string: `01:02:03.000004`", "the same"),
        {"time": Sent(pl.Time(), st.times())},
    ),
    Line(
        ("time, finer than microseconds", "string, with nine digits", "string"),
        {"moment": Sent(pl.Time(), MIDDAY_NANOSECONDS, pl.String(), iso)},
    ),
    Line(
        ("duration", "string: `P1DT2.000003S`", "string"),
        {"span": Sent(pl.Duration("us"), SPANS, pl.String(), iso)},
    ),
    Line(
        ("lists, arrays, structs", "arrays, documents", "lists, structs"),
        {
            **NESTED,
            "array": Sent(
                pl.Array(pl.Int64(), 2),
                st.lists(st.integers(-9, 9), min_size=2, max_size=2),
                pl.List(pl.Int64()),
                lambda values: values.arr.to_list(),
            ),
        },
    ),
    Line(("null", "null", "null"), NULLS),
)
"""From the stream, and back by our own source."""


def decimal_of(value: object) -> Decimal:
    assert isinstance(value, Decimal128)
    return value.to_decimal()


def uuid_of(value: object) -> str:
    assert isinstance(value, Binary)
    return str(value.as_uuid())


SCALARS = (pl.Int64(), pl.Float64(), pl.Boolean(), MICROSECONDS, pl.Decimal(38, 9))
MONGODB_SOURCE = (
    Line(
        ("int, long", "number", "`int32`, `int64`"),
        found=(
            Found(st.integers(-(2**31), 2**31 - 1), {pl.Int32(): plainly, pl.Int64(): plainly}),
            Found(st.integers(-(2**63), 2**63 - 1).map(Int64), {pl.Int64(): plainly}),
        ),
    ),
    Line(("double", "number", "`float64`"), found=(Found(FINITE["f64"].values, {pl.Float64(): plainly}),)),
    Line(
        ("bool, string (JavaScript code too), null", "the same", "`bool`, `string`"),
        found=(
            Found(st.booleans(), {pl.Boolean(): plainly}),
            Found(TEXT, {pl.String(): plainly}),
            Found(TEXT.map(lambda text: Code(str(text))), {pl.String(): str}),
            Found(st.none(), {pl.String(): plainly, pl.Int64(): plainly}),
        ),
    ),
    Line(
        ("date", "text in UTC, with milliseconds", "`datetime`"),
        found=(Found(IN_UTC, {MICROSECONDS: plainly}),),
    ),
    Line(
        ("decimal", "its text, all digits", "`decimal` (9 places) or `string`"),
        found=(
            Found(
                st.decimals(-(10**12), 10**12, places=9).map(Decimal128),
                {pl.Decimal(38, 9): decimal_of, pl.String(): str},
            ),
        ),
    ),
    Line(
        ("objectId", "24 hexadecimal digits", "`string`"),
        found=(Found(st.binary(min_size=12, max_size=12).map(ObjectId), {pl.String(): str}),),
    ),
    Line(
        ("binary", "base64", "`binary`"),
        found=(
            Found(st.binary(max_size=20), {pl.Binary(): plainly}),
            Found(st.binary(max_size=20).map(lambda found: Binary(found, 5)), {pl.Binary(): bytes}),
        ),
    ),
    Line(
        ("UUID", "its usual text", "`string`"),
        found=(
            Found(
                st.uuids().map(Binary.from_uuid),
                {pl.String(): uuid_of},
            ),
        ),
    ),
    Line(
        ("document, array", "the same", "structs and lists, a model's fields"),
        found=(
            Found(DEEP_VALUES, {DEEP: plainly}),
            Found(NESTED["list"].values, {NESTED["list"].dtype: plainly}),
        ),
    ),
    Line(
        (
            "a date outside of the years 1 to 9999, regular expressions, timestamps, scoped code, MinKey …",
            'MongoDB\'s own JSON, e.g. `{"$timestamp": …}`',
            "no other type takes them",
        ),
        found=(
            Found(
                st.sampled_from(
                    [
                        Timestamp(1, 2),
                        Regex("a", "i"),
                        MinKey(),
                        MaxKey(),
                        DatetimeMS(10**15),
                        Code("f()", {"a": 1}),
                    ]
                ),
                refused=(*SCALARS, pl.String()),
            ),
        ),
    ),
)
"""What there is in MongoDB, and which types of the stream take it."""
