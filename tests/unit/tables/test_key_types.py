"""Best and first rows with columns of every type that can be a key or in an order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from streamcore.batch import OFFSET
from streamcore.event_time import END
from streamcore.tables.as_of_join import EVER, AsOfJoin
from streamcore.tables.declaration import first_operator, top_operator
from streamcore.tables.join_side import JoinShape, JoinSide

TWO_OF: dict[str, tuple[pl.DataType, list[Any]]] = {
    "boolean": (pl.Boolean(), [False, True]),
    "date": (pl.Date(), [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
    "time": (pl.Time(), [dt.time(1), dt.time(2)]),
    "datetime": (pl.Datetime("ns", "UTC"), [dt.datetime(2026, 1, d, tzinfo=dt.timezone.utc) for d in (1, 2)]),
    "duration": (pl.Duration("ms"), [dt.timedelta(1), dt.timedelta(2)]),
    "decimal": (pl.Decimal(38, 2), [Decimal("-1.50"), Decimal("2.25")]),
    "enum": (pl.Enum(["small", "big"]), ["small", "big"]),
    "category": (pl.Categorical(), ["a", "b"]),
    "binary": (pl.Binary(), [b"", b"\xff"]),
    "unsigned": (pl.UInt64(), [0, (1 << 64) - 1]),
    "wide": (pl.Int128(), [-(1 << 100), 1 << 100]),
    "float": (pl.Float32(), [-1.0, float("inf")]),
    "text": (pl.String(), ["", "ü"]),
}


@pytest.mark.parametrize("name", TWO_OF)
def test_top_takes_the_type_as_key_and_as_order(name):
    dtype, (less, more) = TWO_OF[name]
    schema = pl.Schema({"k": dtype, "v": dtype})
    op, state, seen = top_operator(["k"], "v desc", schema, n=2), None, []
    for key, value in [(less, less), (None, more), (less, more), (less, None), (less, less)]:
        rows = pl.DataFrame({"k": [key], "v": [value], OFFSET: [0]}, schema={**schema, OFFSET: pl.Int64})
        state, emission, _ = op.apply(state or op.empty, [rows], 0)
        seen += op.finish(emission).select(OFFSET, "k", "v", "rank").rows()
    assert seen == [
        (0, less, less, 1),
        (2, None, more, 1),
        (4, less, more, 1),
        (5, less, less, 2),
    ]


@pytest.mark.parametrize("name", TWO_OF)
def test_first_takes_the_type_as_key(name):
    dtype, (less, more) = TWO_OF[name]
    schema = pl.Schema({"k": dtype})
    op, state, seen = first_operator(["k"], schema, stream="s", time=None), None, []
    for keys in [[less, None], [more, less], [None, more], [less]]:
        rows = pl.DataFrame({"k": keys, OFFSET: range(len(keys))}, schema={**schema, OFFSET: pl.Int64})
        state, emission, _ = op.apply(state or op.empty, [rows], 0)
        seen += op.finish(emission).select(OFFSET, "k").rows()
    assert seen == [(0, less), (1, None), (2, more)]


@pytest.mark.parametrize("name", TWO_OF)
def test_an_as_of_join_takes_the_type_as_key_and_as_value(name):
    dtype, (less, more) = TWO_OF[name]
    shape = JoinShape(
        pl.Schema({"k": dtype, "at": pl.Int64}),
        pl.Schema({"of": dtype, "seen": pl.Int64, "v": dtype}),
        {"k": "of"},
        ("at", "seen"),
    )
    op, rows = AsOfJoin(shape, (-EVER, 0), None, True), []
    for offset, (right, key, time, value) in enumerate(
        [(True, less, 1, more), (False, less, 2, None), (False, more, 2, None), (False, None, 3, None)]
    ):
        columns = shape.right if right else shape.left
        frame = pl.DataFrame([[key, time, value][: len(columns)]], schema=columns, orient="row")
        hidden = {OFFSET: pl.lit(offset), "_sub": pl.lit(0), "_op": pl.lit(0)}
        side = JoinSide(shape, right, op.keeps[right]).apply(frame.with_columns(**hidden), "side").frame
        rows.append(op.prepare(side, "join").rows)
    _, emission, _ = op.apply(op.empty, rows, END)
    assert op.finish(emission).select("k", "of", "v").rows() == [
        (less, less, more),
        (more, None, None),
        (None, None, None),
    ]


@pytest.mark.parametrize(
    "dtype", [pl.Int64(), pl.Date(), pl.Datetime("ns"), pl.Datetime("ms", "Europe/Berlin")]
)
def test_first_within_takes_each_type_of_event_time(dtype):
    day, schema = 86_400_000, pl.Schema({"k": pl.Int64, "at": dtype})
    op = first_operator(["k"], schema, stream="s", time="at", within=36 * 3_600_000_000)
    days = pl.Series("at", [0, 1, 2, 3, 4, None])
    times = (days * day).cast(dtype) if dtype == pl.Int64 else (days * day).cast(pl.Datetime("ms"))
    if getattr(dtype, "time_zone", None):
        times = times.dt.replace_time_zone(dtype.time_zone)
    frame = pl.DataFrame({"k": [1] * 6, "at": times.cast(dtype), OFFSET: range(6), "_sub": [0] * 6})
    delta = op.prepare(frame.with_columns(pl.col("_sub").cast(pl.UInt32)), "first")
    assert delta.rejects.frame.select(OFFSET, "stage", "code").rows() == [(5, "first", "no_time")]
    applied = op.apply(op.empty, [delta.rows], END)
    assert op.finish(applied.emission)["at"].to_list() == times.cast(dtype)[[0, 2, 4]].to_list()
    assert len(applied.state) == 0
