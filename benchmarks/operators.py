"""What a row costs in each kind of table and window: the operators alone, on one core.

Batches of 16,384 rows of 10,000 random keys; event time moves on by a second a batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

import streamcore as sc
from streamcore.batch import OFFSET, OP, OP_INSERT, SUB
from streamcore.event_time import BEGINNING
from streamcore.passage import operator_of
from streamcore.state.operator import BEHIND, UPSTREAM, Operator
from streamcore.stream import Stream

KEYS, BATCH, CALLS, WARM = 10_000, 16_384, 60, 20
COLUMNS = {"key": "int64", "value": "int64", "amount": "float64", "time": "timestamp"}
SECOND = 1_000_000
COUNTED: Mapping[str, str] = {"n": "count(*)", "total": "sum(value)"}
DISTINCT: Mapping[str, str] = {"n": "count(distinct value)"}
TABLES: dict[str, Callable[[Stream], Stream]] = {
    "count, sum": lambda rows: rows.by("key").aggregate(name="x", **COUNTED),
    "count, sum, ttl of 60 s": lambda rows: rows.by("key", ttl="60s").aggregate(name="x", **COUNTED),
    "min, max": lambda rows: rows.by("key").aggregate(name="x", a="min(value)", b="max(value)"),
    "avg, variance": lambda rows: rows.by("key").aggregate(name="x", a="avg(amount)", b="var_samp(amount)"),
    "count distinct": lambda rows: rows.by("key").aggregate(name="x", **DISTINCT),
    "latest": lambda rows: rows.by("key").latest(name="x"),
    "top 3": lambda rows: rows.by("key").top(3, order="amount desc", name="x"),
}
WINDOWS: dict[str, Mapping[str, str]] = {
    "count, sum": COUNTED,
    "count distinct": DISTINCT,
    "count distinct, approximate": {"n": "approx_count_distinct(value)"},
    "median, approximate": {"m": "median(amount)"},
}


def table(declared: Callable[[Stream], Stream]) -> float:
    """CPU us a row of a table."""
    topology = sc.Topology("bench")
    declared(topology.stream("rows", COLUMNS, event_time="time")).changelog().to(sc.sinks.Parquet("out"))
    return _cost(operator_of(topology.freeze(), "x"))


def window(aggregates: Mapping[str, str]) -> float:
    """CPU us a row of windows of 10 s by key."""
    topology = sc.Topology("bench")
    rows = topology.stream("rows", COLUMNS, event_time="time")
    windows = rows.window(sc.tumbling("10s")).by("key").aggregate(name="x", **aggregates)
    windows.to(sc.sinks.Parquet("out"))
    return _cost(operator_of(topology.freeze(), "x"))


def _cost(operator: Operator) -> float:
    state, random, began = operator.empty, np.random.default_rng(1), 0.0
    for call in range(WARM + CALLS):
        frame = _rows(random, call)
        if BEHIND in operator.no_rows.columns:
            frame = frame.with_columns(pl.lit(0, pl.Int64).alias(BEHIND))
        if call == WARM:
            began = time.process_time()
        rows = operator.prepare(frame, "x").rows
        if UPSTREAM in operator.no_rows.columns:
            rows = rows.with_columns(pl.lit(0, pl.Int64).alias(UPSTREAM))
        applied = operator.apply(state, [rows], BEGINNING if not operator.timed else call * SECOND)
        operator.finish(applied.emission)
        state = applied.state
    return (time.process_time() - began) / (CALLS * BATCH) * 1e6


def _rows(random: np.random.Generator, call: int) -> pl.DataFrame:
    first = call * BATCH
    times = call * SECOND + np.arange(BATCH) * SECOND // BATCH
    return pl.DataFrame(
        {
            "key": random.integers(0, KEYS, BATCH),
            "value": random.integers(0, 1_000, BATCH),
            "amount": random.random(BATCH),
            "time": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            OFFSET: np.arange(first, first + BATCH),
            SUB: pl.zeros(BATCH, pl.UInt32, eager=True),
            OP: pl.repeat(OP_INSERT, BATCH, dtype=pl.UInt8, eager=True),
        }
    )


if __name__ == "__main__":
    assert os.environ.get("POLARS_MAX_THREADS") == "1", "as a worker has it"
    for name, declared in TABLES.items():
        print(f"table, {name}: {table(declared):.2f} us a row", flush=True)
    for name, aggregates in WINDOWS.items():
        print(f"window, {name}: {window(aggregates):.2f} us a row", flush=True)
