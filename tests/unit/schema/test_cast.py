"""A cast says so when it can't keep a value: nothing is rounded, cut or guessed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from streamcore.schema.cast import cast_column, widens

UTC = pl.Datetime("us", "UTC")
NOON = dt.datetime(2026, 1, 1, 12)
DAY = dt.datetime(2026, 1, 1)
AWARE = NOON.replace(tzinfo=dt.timezone.utc)
UNSURE = object()

# from, to, values, what becomes of them
CASES: list[tuple[Any, Any, list[Any], list[Any]]] = [
    (pl.Int64, pl.Int16, [1, 40_000, None], [1, UNSURE, None]),
    (pl.Int32, pl.Int64, [1], [1]),
    (pl.UInt64, pl.Int64, [1, 2**63], [1, UNSURE]),
    (pl.Int64, pl.Float64, [3], [3.0]),
    (pl.Float64, pl.Int64, [3.0, 3.5, float("nan"), 1e30], [3, UNSURE, UNSURE, UNSURE]),
    (pl.Boolean, pl.Int64, [True, None], [1, None]),
    (pl.Int64, pl.Boolean, [1], [UNSURE]),
    (pl.Int64, pl.String, [5], [UNSURE]),
    (pl.String, pl.Binary, ["é"], ["é".encode()]),
    (pl.Categorical, pl.String, ["a"], ["a"]),
    (pl.Categorical, pl.Int64, ["5", "x"], [5, UNSURE]),
    (pl.Null, pl.Date, [None], [None]),
    (pl.Decimal(10, 4), pl.Decimal(10, 2), [Decimal("1.25"), Decimal("1.255")], [Decimal("1.25"), UNSURE]),
    (pl.Int64, pl.Decimal(38, 9), [7], [Decimal(7)]),
    (pl.Float64, pl.Decimal(38, 9), [0.1], [UNSURE]),
    (pl.Datetime("ms"), UTC, [NOON], [AWARE]),
    (pl.Datetime("us", "Europe/Berlin"), UTC, [AWARE], [AWARE]),
    (UTC, pl.Datetime("us"), [AWARE], [UNSURE]),
    (pl.Date, UTC, [DAY.date()], [DAY.replace(tzinfo=dt.timezone.utc)]),
    (pl.Datetime("us"), pl.Date, [DAY, NOON], [DAY.date(), UNSURE]),
    (pl.Int64, UTC, [1_577_836_800], [UNSURE]),
    (pl.List(pl.Int32), pl.List(pl.Int64), [[1, None]], [[1, None]]),
    (pl.List(pl.Int64), pl.List(pl.Int32), [[1]], [UNSURE]),
    (pl.Struct({"x": pl.Int8}), pl.Struct({"x": pl.Int64}), [{"x": 1}], [{"x": 1}]),
    (pl.Struct({"y": pl.Int8}), pl.Struct({"x": pl.Int64}), [{"y": 1}], [UNSURE]),
]


@pytest.mark.parametrize(
    ("source", "dtype", "values", "outcome"), CASES, ids=[f"{c[0]} to {c[1]}" for c in CASES]
)
def test_cast(source: Any, dtype: Any, values: list[Any], outcome: list[Any]) -> None:
    cast, unsure = cast_column(pl.Series(values, dtype=source), dtype() if isinstance(dtype, type) else dtype)
    assert cast.dtype == dtype
    doubted = [False] * len(values) if unsure is None else unsure.to_list()
    assert doubted == [o is UNSURE for o in outcome]
    assert [v for v, bad in zip(cast.to_list(), doubted, strict=True) if not bad] == [
        o for o in outcome if o is not UNSURE
    ]


def test_the_same_type_costs_nothing() -> None:
    values = pl.Series([1, 2])
    cast, unsure = cast_column(values, pl.Int64())
    assert cast is values
    assert unsure is None


def test_widens() -> None:
    assert widens(pl.Float32(), pl.Float64())
    assert widens(pl.UInt32(), pl.Int64())
    assert not widens(pl.UInt64(), pl.Int64())
    assert not widens(pl.Int64(), pl.Float64())
