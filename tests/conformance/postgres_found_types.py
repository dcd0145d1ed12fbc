"""What there is in PostgreSQL, as data: see :mod:`tests.conformance.type_tables`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import polars as pl
from hypothesis import strategies as st

from tests.conformance.postgres_types import (
    FLOATS,
    IN_UTC,
    JSON_TEXTS,
    LOCAL,
    MOODS,
    NAIVE,
    SINGLES,
    TEXT,
    WHOLE,
)
from tests.conformance.type_tables import DECIMALS, MICROSECONDS, Found, Line, Strategy, plainly


def exactly(value: object) -> str:
    assert isinstance(value, Decimal)
    return f"{value:f}"


def column(
    declared: str, values: Strategy, dtype: pl.DataType, made: Callable[[object], object] = plainly
) -> Found:
    return Found(values, {dtype: made}, declared=declared)


def refused(declared: str, dtype: pl.DataType, *values: str) -> tuple[Found, ...]:
    return tuple(Found(st.just(value), refused=(dtype,), declared=declared) for value in values)


def some(values: Strategy) -> Strategy:
    return st.lists(st.none() | values, max_size=3)


def padded(value: object) -> str:
    return str(value).ljust(8)


ANY_DECIMAL = st.decimals(-(10**20), 10**20, places=3)
INFINITE = ("infinity", "-infinity")
POSTGRES_SOURCE = (
    Line(
        ("`smallint`, `integer`, `bigint`", "int16, int32, int64"),
        found=(
            column("smallint", st.integers(-(2**15), 2**15 - 1), pl.Int16()),
            column("integer", st.integers(-(2**31), 2**31 - 1), pl.Int32()),
            column("bigint", WHOLE, pl.Int64()),
        ),
    ),
    Line(
        ("`real`, `double precision`", "float32, float64"),
        found=(column("real", SINGLES, pl.Float32()), column("double precision", FLOATS, pl.Float64())),
    ),
    Line(
        ("`numeric(p, s)`", "decimal(p, s) up to 38 digits; with more, or without p, text"),
        found=(
            column("numeric(38,9)", DECIMALS["decimal"].values, pl.Decimal(38, 9)),
            column("numeric(20,2)", DECIMALS["price"].values, pl.Decimal(20, 2)),
            column("numeric", ANY_DECIMAL, pl.String(), exactly),
            column("numeric(60,3)", ANY_DECIMAL, pl.String(), exactly),
            *refused("numeric(5,2)", pl.Decimal(5, 2), "NaN"),
        ),
    ),
    Line(
        (
            "`boolean`, `text`, `varchar`, `char`, `bytea`",
            "bool, string, string, string (with its blanks), binary",
        ),
        found=(
            column("boolean", st.booleans(), pl.Boolean()),
            column("text", TEXT, pl.String()),
            column("varchar(8)", TEXT, pl.String()),
            column("char(8)", TEXT, pl.String(), padded),
            column("bytea", st.binary(max_size=20), pl.Binary()),
        ),
    ),
    Line(
        ("`date`, `time`", "date, time"),
        found=(
            column("date", st.dates(), pl.Date()),
            column("time", st.times(), pl.Time()),
            *refused("date", pl.Date(), *INFINITE, "300000-01-01"),
            *refused("time", pl.Time(), "24:00:00"),
        ),
    ),
    Line(
        ("`timestamp`, `timestamptz`", "datetime; datetime in UTC"),
        found=(
            column("timestamp", NAIVE, LOCAL),
            column("timestamptz", IN_UTC, MICROSECONDS),
            *refused("timestamp", LOCAL, *INFINITE, "280000-01-01"),
            *refused("timestamptz", MICROSECONDS, *INFINITE),
        ),
    ),
    Line(
        ("arrays of these, of one dimension, but for `numeric`", "lists"),
        found=(
            column("smallint[]", some(st.integers(-9, 9)), pl.List(pl.Int16())),
            column("bigint[]", some(WHOLE), pl.List(pl.Int64())),
            column("double precision[]", some(FLOATS), pl.List(pl.Float64())),
            column("boolean[]", some(st.booleans()), pl.List(pl.Boolean())),
            column("text[]", some(TEXT), pl.List(pl.String())),
            column("bytea[]", some(st.binary(max_size=9)), pl.List(pl.Binary())),
            column("date[]", some(st.dates()), pl.List(pl.Date())),
            column("time[]", some(st.times()), pl.List(pl.Time())),
            column("timestamptz[]", some(IN_UTC), pl.List(MICROSECONDS)),
            column("mood[]", some(MOODS), pl.List(pl.String())),
            *refused("date[]", pl.List(pl.Date()), "{NULL,2024-01-01,infinity}"),
            *refused("time[]", pl.List(pl.Time()), "{12:00,24:00}"),
            *refused("timestamptz[]", pl.List(MICROSECONDS), "{-infinity}"),
            *refused("integer[]", pl.List(pl.Int32()), "{{1,2},{3,4}}"),
            *refused("bytea[]", pl.List(pl.Binary()), "{{a},{b}}"),
        ),
    ),
    Line(
        (
            "`uuid`, `json`, `jsonb`, enums, `inet`, `interval`, `money` and all others, arrays of these too "
            "(but of enums: lists)",
            "their text in PostgreSQL",
        ),
        found=(
            column("uuid", st.uuids(), pl.String(), str),
            column("json", JSON_TEXTS, pl.String()),
            column("jsonb", JSON_TEXTS, pl.String()),
            column("mood", MOODS, pl.String()),
            column("inet", st.sampled_from(["10.0.0.1/32", "::1/128"]), pl.String()),
            column("interval", st.sampled_from(["1 mon 2 days", "-00:00:01.5"]), pl.String()),
            column("money", st.sampled_from(["$1.50", "-$1,000.00"]), pl.String()),
            column("int4range", st.sampled_from(["[1,2)", "empty"]), pl.String()),
            column("uuid[]", st.uuids().map(lambda one: f"{{{one}}}"), pl.String()),
            column("numeric(5,2)[]", st.sampled_from(["{1.50,NULL}", "{}"]), pl.String()),
        ),
    ),
)
"""What there is in PostgreSQL, and what the stream has of it."""
