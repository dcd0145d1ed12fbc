"""first, last, lists and the best rows in windows: the same however partitions are interleaved and cut."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import HIDDEN, OFFSET, PartitionId
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.state.log_record import Entry
from streamcore.stateful_task import StatefulTask
from streamcore.windows.assigners import WindowKind
from tests.unit.topology.collecting import Collect

COLUMNS = {"key": "string", "t": "int64", "v": "int64", "w": "float64"}
UPSTREAM = [("s", 0), ("s", 1), ("t", 0)]
ORDERED = "order by t, partition, stream, offset_"
RESULTS = {
    "a": ("first(v)", f"first(v {ORDERED})"),
    "b": ("last(v)", f"last(v {ORDERED})"),
    "c": (
        "last(v) filter (where w > 0)",
        f"last(v {ORDERED}) filter (where w > 0)",
    ),
    "d": ("any_value(v)", f"first(v {ORDERED}) filter (where v is not null)"),
    "e": ("list(v)", f"list(v {ORDERED})"),
    "f": ("array_agg(w) filter (where v > 0)", f"list(w {ORDERED}) filter (where v > 0)"),
    "g": ("arg_max(t, v)", "min_by(t, (-v, t, partition, stream, offset_)) filter (where v is not null)"),
    "h": ("max(v, 2)", "max(v, 2)"),
    "i": ("first(v) - last(v) + count(*)", f"first(v {ORDERED}) - last(v {ORDERED}) + count(*)"),
}
AGGREGATES = {name: ours for name, (ours, _) in RESULTS.items()}
KINDS: dict[str, tuple[WindowKind, str]] = {
    "tumbling": (sc.tumbling("10ms"), "t - t % 10"),
    "hopping": (
        sc.hopping("10ms", every="4ms"),
        "unnest(range(t - t % 4, t - 10, -4))",
    ),
}
Row = tuple[int, str, int, int | None, float | None]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from("ab"),
        st.integers(0, 25),
        st.sampled_from([None, -1, 0, 1, 2]),
        st.sampled_from([None, -1.0, 0.5]),
    ),
    max_size=14,
)


@functools.cache
def graph_of(kind: WindowKind, *, table: bool = False) -> Graph:
    topology = sc.Topology("t")
    two = [topology.stream(name, COLUMNS, event_time="t", max_lateness="1s") for name in ("s", "t")]
    windows = two[0].union(two[1]).window(kind).by("key")
    made = windows.table(name="w", **AGGREGATES) if table else windows.aggregate(name="w", **AGGREGATES)
    (made.changelog() if table else made).to(Collect("out"))
    return topology.freeze()


def entries_of(rows: Sequence[Row]) -> list[list[Entry]]:
    """For each partition an entry a row, and its end."""
    made = []
    for number, (topic, partition) in enumerate(UPSTREAM):
        own = [row[1:] for row in rows if row[0] == number]
        frame = pl.DataFrame(own, schema=["key", "t", "v", "w"], orient="row").cast(
            {"key": pl.String, "t": pl.Int64, "v": pl.Int64, "w": pl.Float64}
        )
        frame = frame.with_columns(pl.Series(OFFSET, range(len(own)), pl.Int64))
        parts = [Entry((topic, partition), i, i + 1, 0, False, "", frame[i : i + 1]) for i in range(len(own))]
        made.append([*parts, Entry((topic, partition), len(own), len(own), END, False, "", None)])
    return made


def drawn(data: st.DataObject, rows: Sequence[Row]) -> list[list[Entry]]:
    """The entries of all partitions in some interleaving and cut, each partition in its order."""
    queues = entries_of(rows)
    order = data.draw(st.permutations([n for n, queue in enumerate(queues) for _ in queue]), label="order")
    entries = [queues[number].pop(0) for number in order]
    cuts = data.draw(st.lists(st.integers(0, len(entries)), max_size=4), label="cuts")
    return [entries[start:end] for start, end in pairwise([0, *sorted(cuts), len(entries)])]


def emitted(graph: Graph, groups: Sequence[Sequence[Entry]]) -> pl.DataFrame:
    task = StatefulTask(graph, "w", PartitionId("w", 0, "id"), UPSTREAM)
    outcomes = [task.on_entries(group) for group in groups if group]
    frames = [o.writes["out"].frame for o in outcomes if o is not None and "out" in o.writes]
    return pl.concat(frames)


def duckdbs(rows: Sequence[Row], start: str) -> list[tuple[Any, ...]]:
    frame = pl.DataFrame(rows, schema=["n", "key", "t", "v", "w"], orient="row")
    frame = frame.cast({"v": pl.Int64, "w": pl.Float64})
    frame = frame.with_row_index("offset_")
    frame = frame.with_columns(
        pl.col("n").replace_strict([0, 1, 2], [0, 1, 0]).alias("partition"),
        pl.col("n").replace_strict([0, 1, 2], ["s", "s", "t"]).alias("stream"),
    )
    texts = ", ".join(theirs for _, theirs in RESULTS.values())
    with duckdb.connect() as database:
        database.register("given", frame.to_arrow())
        sql = f"with rows as (select *, {start} as start from given)"
        sql += f" select key, start, {texts} from rows group by all order by start, key"
        return database.sql(sql).fetchall()


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=40)
@given(rows=ROWS.filter(bool), data=st.data())
def test_what_is_first_last_and_listed_is_duckdbs_in_any_interleaving(name, rows, data):
    kind, start = KINDS[name]
    frame = emitted(graph_of(kind), drawn(data, rows)).drop("window_end", *HIDDEN)
    assert frame.rows() == duckdbs(rows, start)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS.filter(bool), data=st.data())
def test_so_is_the_last_update_of_a_table_of_windows(rows, data):
    kind, start = KINDS["hopping"]
    frame = emitted(graph_of(kind, table=True), drawn(data, rows))
    frame = frame.drop("window_end", "op", "number", *HIDDEN)
    last = {row[:2]: row for row in frame.rows()}
    assert sorted(last.values(), key=lambda row: (row[1], row[0])) == duckdbs(rows, start)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS.filter(bool), data=st.data())
def test_sessions_too(rows, data):
    """In two interleavings alike."""
    graph = graph_of(sc.session("3ms"))
    one, other = (emitted(graph, drawn(data, rows)) for _ in range(2))
    assert one.rows() == other.rows()
