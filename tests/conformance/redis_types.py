"""Redis' table of types, as data: see :mod:`tests.conformance.type_tables`."""

from __future__ import annotations

import polars as pl
from hypothesis import strategies as st

from tests.conformance.type_tables import (
    BOOL,
    DECIMALS,
    FINITE,
    HALVES,
    INTEGERS,
    MICROSECONDS,
    MIDDAY_NANOSECONDS,
    NESTED,
    NOT_FINITE,
    NULLS,
    RECENT,
    SPANS,
    TEXT,
    UTC,
    Line,
    Sent,
    as_text,
    in_single,
    in_utc,
    iso,
    nested,
    texts,
)  # fmt: skip

SMALL = st.integers(-9, 9)
UTF8 = TEXT.map(lambda text: str(text).encode())


REDIS = (
    Line(
        ("integers of up to 64 bits, decimals", "digits: `-42`, `1.10`", "the same"), {**INTEGERS, **DECIMALS}
    ),
    Line(
        ("integers of 128 bits", "digits", "string"),
        {
            "i128": Sent(pl.Int128(), st.integers(-(2**127), 2**127 - 1), pl.String(), as_text),
            "u128": Sent(pl.UInt128(), st.integers(0, 2**128 - 1), pl.String(), as_text),
        },
    ),
    Line(
        ("float32, float64", "the shortest digits that are the same number: `0.1`, `1e+300`", "the same"),
        FINITE,
    ),
    Line(
        ("float16", "the digits of the same float32", "float32"),
        {"f16": Sent(pl.Float16(), HALVES, pl.Float32(), in_single)},
    ),
    Line(
        ("floats that are not finite", "`inf`, `-inf`, `NaN`", "string"),
        {"odd": Sent(pl.Float64(), NOT_FINITE, pl.String(), as_text)},
    ),
    Line(("bool", "`true`, `false`", "the same"), BOOL),
    Line(("string, enum, categorical", "itself", "string"), texts()),
    Line(("binary", "its bytes", "the same, if they are UTF-8"), {"bytes": Sent(pl.Binary(), UTF8)}),
    Line(
        ("date, time", "`2026-01-02`, `01:02:03.000004`", "the same"),
        {"day": Sent(pl.Date(), st.dates()), "time": Sent(pl.Time(), st.times())},
    ),
    Line(
        ("datetime", "`2026-01-02T12:00:00.000001`; where it has a zone in UTC, with a `Z`", "datetime"),
        {
            "naive": Sent(pl.Datetime("us"), st.datetimes()),
            "utc": Sent(pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
            "zone": Sent(pl.Datetime("ns", "Asia/Tokyo"), RECENT, MICROSECONDS, in_utc),
        },
    ),
    Line(
        ("time, datetime finer than microseconds", "with nine digits", "string"),
        {
            "moment": Sent(pl.Time(), MIDDAY_NANOSECONDS, pl.String(), iso),
            "fine": Sent(
                pl.Datetime("ns"),
                MIDDAY_NANOSECONDS,
                pl.String(),
                lambda values: values.dt.to_string("iso:strict"),
            ),
        },
    ),
    Line(
        ("duration", "`P1DT2.000003S`", "string"),
        {"span": Sent(pl.Duration("us"), SPANS, pl.String(), iso)},
    ),
    Line(
        ("lists, arrays, maps, structs", "JSON", "string"),
        {
            **{name: nested(one.dtype, one.values) for name, one in NESTED.items()},
            "array": nested(pl.Array(pl.Int64(), 2), st.lists(SMALL, min_size=2, max_size=2)),
            "map": nested(pl.Map(pl.String(), pl.Int64()), st.dictionaries(TEXT, SMALL, max_size=3)),
        },
    ),
    Line(("null", "no field", "null"), NULLS),
)
"""From the stream, and back by our own source of a Redis stream."""
