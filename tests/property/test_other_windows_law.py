"""Sliding, counted and global windows: DuckDB's answer, in any interleaving and cut of the partitions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import HIDDEN, OFFSET, PartitionId
from streamcore.graph import Graph
from streamcore.state.log_record import Entry
from streamcore.stateful_task import StatefulTask
from streamcore.windowed import AnyKind
from tests.property.rereading import reread
from tests.property.test_window_order_law import COLUMNS, ROWS, UPSTREAM, Row, drawn
from tests.unit.topology.collecting import Collect

BY: dict[str, tuple[str, ...]] = {"by key": ("key",), "without a key": ()}


@functools.cache
def graph_of(kind: AnyKind, by: tuple[str, ...], aggregates: tuple[tuple[str, str], ...]) -> Graph:
    topology = sc.Topology("t")
    two = [topology.stream(name, COLUMNS, event_time="t", max_lateness="1s") for name in ("s", "t")]
    windows = two[0].union(two[1]).window(kind).by(*by).aggregate(name="w", **dict(aggregates))
    windows.to(Collect("out"))
    return topology.freeze()


def told(groups: Sequence[Sequence[Entry]], rows: Sequence[Row]) -> list[list[Entry]]:
    """The entries with the watermark that no row of their partition behind them is older than."""
    least: dict[tuple[str, int], list[int]] = {name: [] for name in UPSTREAM}
    for number, name in enumerate(UPSTREAM):
        times = [row[2] for row in rows if row[0] == number]
        least[name] = [min(times[i + 1 :], default=1 << 40) * 1_000 for i in range(len(times))]
    return [
        [e if e.rows is None else e._replace(watermark=least[e.upstream][e.start]) for e in group]
        for group in groups
    ]


def emitted(graph: Graph, groups: Sequence[Sequence[Entry]], snapshot_at: int) -> pl.DataFrame:
    """What comes out; behind one of the groups another task goes on from a snapshot."""
    task = StatefulTask(graph, "w", PartitionId("w", 0, "id"), UPSTREAM)
    frames = []
    for number, group in enumerate(groups):
        if number == snapshot_at:
            snapshot = task.snapshot(0)
            task = StatefulTask(graph, "w", PartitionId("w", 0, "id"), UPSTREAM)
            task.restore(reread(snapshot, task))
        outcome = task.on_entries(group) if group else None
        if outcome is not None and "out" in outcome.writes:
            frames.append(outcome.writes["out"].frame)
    return pl.concat(frames)


def answer(rows: Sequence[Row], sql: str) -> list[tuple[Any, ...]]:
    frame = pl.DataFrame(rows, schema=["n", "key", "t", "v", "w"], orient="row")
    frame = frame.cast({"v": pl.Int64, "w": pl.Float64}).with_row_index("place")
    order = frame["n"].replace_strict([0, 1, 2], [0, 2, 1])  # partition, then stream
    with duckdb.connect() as database:
        database.register("given", frame.with_columns(order.alias("upstream")).to_arrow())
        return database.sql(sql).fetchall()


SLIDING = {
    "n": "count(*)",
    "total": "sum(v)",
    "least": "min(w)",
    "mean": "avg(w)",
    "some": "count(*) filter (where v > 0)",
    "values": "list(v)",
    "newest": "last(v)",
}
OVER = """
    select key, t, v, w,
        count(*) over r, sum(v) over r, min(w) over r, avg(w) over r,
        count(*) filter (where v > 0) over r, list(v order by t, upstream, place) over r,
        (list(v order by t, upstream, place) over r)[-1]
    from given window r as ({partition} order by t range between 6 preceding and current row)
    order by t, upstream, place
"""


@pytest.mark.parametrize("name", BY)
@settings(deadline=None, max_examples=40)
@given(rows=ROWS.filter(bool), data=st.data())
def test_each_row_has_the_aggregates_of_the_time_before_it(name, rows, data):
    graph = graph_of(sc.sliding("7ms"), BY[name], tuple(SLIDING.items()))
    groups = told(drawn(data, rows), rows)
    frame = emitted(graph, groups, data.draw(st.integers(0, len(groups)), label="snapshot"))
    assert frame[OFFSET].to_list() == list(range(len(rows)))
    partition = "partition by key" if BY[name] else ""
    assert frame.drop(HIDDEN).rows() == answer(rows, OVER.format(partition=partition))


COUNTED = {"n": "count(*)", "total": "sum(v)", "values": "list(t)", "oldest": "first(t)"}


@pytest.mark.parametrize("name", BY)
@settings(deadline=None, max_examples=40)
@given(rows=ROWS.filter(bool), size=st.integers(1, 4), data=st.data())
def test_so_many_rows_in_the_order_of_the_log_make_a_window(name, rows, size, data):
    graph = graph_of(sc.counted(size), BY[name], tuple(COUNTED.items()))
    groups = drawn(data, rows)
    frame = emitted(graph, groups, data.draw(st.integers(0, len(groups)), label="snapshot"))
    arrived = [
        row for group in groups for entry in group if entry.rows is not None for row in entry.rows.rows()
    ]
    seen: dict[Any, list[tuple[Any, ...]]] = {}
    complete, numbers = [], []
    for number, (key, t, v, *_) in enumerate(arrived):
        own = seen.setdefault(key if BY[name] else None, [])
        own.append((t, v))
        if len(own) % size == 0:
            complete.append(_window(BY[name], key, own, size))
            numbers.append(number)
    rest = sorted((k or "", k, own) for k, own in seen.items() if len(own) % size)
    complete += [_window(BY[name], key, own, size) for _, key, own in rest]
    numbers += range(len(arrived), len(arrived) + len(rest))
    assert frame.drop(HIDDEN).rows() == complete
    assert frame[OFFSET].to_list() == numbers


def _window(by: tuple[str, ...], key: object, own: list[tuple[Any, ...]], size: int) -> tuple[object, ...]:
    window = own[(len(own) - 1) // size * size :]
    values = [v for _, v in window if v is not None]
    times = [t for t, _ in window]
    keys = (key,) if by else ()
    return (*keys, (len(own) - 1) // size, len(window), sum(values) if values else None, times, times[0])


@settings(deadline=None, max_examples=25)
@given(rows=ROWS.filter(bool), data=st.data())
def test_a_global_window_has_all_rows_of_a_key_when_the_stream_ends(rows, data):
    graph = graph_of(sc.global_window(), ("key",), (("n", "count(*)"), ("newest", "last(v)")))
    groups = told(drawn(data, rows), rows)
    frame = emitted(graph, groups, 0)
    sql = "select key, min(t), max(t), count(*), last(v order by t, upstream, place) from given group by key"
    assert sorted(frame.drop(HIDDEN).rows()) == sorted(answer(rows, sql))
