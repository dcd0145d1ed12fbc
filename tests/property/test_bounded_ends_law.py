"""What a bounded stream leaves in tables with a time to live: the same whichever partition ends last."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import HIDDEN, Chunk, PartitionId, RecordChunk, nothing_at
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.passage import Outcome
from streamcore.state.places import Place
from streamcore.state.snapshot import Snapshot, SnapshotReader
from streamcore.stateful_task import StatefulTasks
from streamcore.task import PartitionTask
from tests.unit.topology.collecting import Collect

TTL, LATENESS, SIZE = 32, 8, 10
"""Milliseconds, as are the times."""
STEP = TTL // 16
COLUMNS = {"k": "string", "v": "int64", "at": "int64"}
Row = tuple[int, str, int]
"""Partition, key, time."""
ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 120)), max_size=16)
PARTITIONS = [PartitionId("s", number, "id") for number in range(3)]
UPSTREAM = [("s", number) for number in range(3)]
TURNS, PLACES = st.lists(st.integers(0, 2), max_size=24), st.integers(0, 24)
Table = dict[tuple[Any, ...], tuple[Any, ...]]


@functools.cache
def graph_of(kind: str) -> Graph:
    topology = sc.Topology("t")
    stream = topology.stream("s", COLUMNS, event_time="at", max_lateness=f"{LATENESS}ms")
    if kind == "windows":
        windows = stream.window(sc.tumbling(f"{SIZE}ms")).by("k")
        stream = windows.aggregate(name="windows", n="count(*)")
    grouped = stream.by("k", ttl=f"{TTL}ms")
    if kind == "best":
        table = grouped.top(1, order="at desc", name="table")
    elif kind == "latest":
        table = grouped.latest(name="table")
    else:
        table = grouped.aggregate(name="table", n="sum(n)" if kind == "windows" else "count(*)")
    table.changelog().to(Collect("out"))
    return topology.freeze()


def drawn(data: st.DataObject, rows: Iterable[Row]) -> list[Chunk]:
    """The chunks of each partition and its empty last one, cut and interleaved in some way."""
    cuts, turns = data.draw(st.lists(st.integers(1, 9), max_size=4)), data.draw(TURNS)
    queues: list[list[Chunk]] = []
    for source in PARTITIONS:
        values = [
            orjson.dumps({"k": key, "v": at, "at": at})
            for number, key, at in rows
            if number == source.partition
        ]
        bounds = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
        parts = [RecordChunk(source, range(a, b), values[a:b]) for a, b in pairwise(bounds)]
        queues.append([*parts, nothing_at(source, len(values))])
    found = [queues[number].pop(0) for number in turns if queues[number]]
    return found + [chunk for number in dict.fromkeys([*turns, 0, 1, 2]) for chunk in queues[number]]


def left_by(graph: Graph, chunks: Sequence[Chunk], again: int) -> Table:
    """What all updates of the table come to; behind *again* chunks states go on from snapshots."""
    tasks = [PartitionTask(graph, "s", source) for source in PARTITIONS]
    states, table = StatefulTasks(graph, UPSTREAM), Table()
    for place, chunk in enumerate(chunks):
        if place == again:
            for task in states._tasks.values():
                task.restore(read_again(task.snapshot(0), task.places))
        own = tasks[chunk.source.partition]
        came = own.on_chunk(chunk) if len(chunk) else own.on_watermark(chunk, END)
        for outcome in states.through(came):
            _update(table, outcome)
    return table


def read_again(snapshot: Snapshot, places: Sequence[Place]) -> Snapshot:
    reader = SnapshotReader(0, places)
    *_, found = [reader.add(value) for value in snapshot.records("one", 1 << 20)]
    assert found is not None
    return found


def _update(table: Table, outcome: Outcome) -> None:
    if "out" not in outcome.writes:
        return
    for row in outcome.writes["out"].frame.drop(*HIDDEN, "number").rows(named=True):
        key = (row.pop("k"),)
        if row.pop("op") == "delete":
            del table[key]
        else:
            table[key] = tuple(row.values())


@pytest.mark.parametrize("kind", ["counts", "best", "latest", "windows"])
@settings(deadline=None, max_examples=25)
@given(rows=ROWS, data=st.data())
def test_the_order_in_which_partitions_end_changes_nothing(kind, rows, data):
    if kind == "latest":  # which row is the latest says the log, unless all of a key are in one partition
        rows = [("abc".index(key), key, at) for _, key, at in rows]
    one, other = (left_by(graph_of(kind), drawn(data, rows), data.draw(PLACES)) for _ in range(2))
    assert one == other


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, data=st.data())
def test_what_stays_is_what_lives_at_the_newest_time_of_all_partitions(rows, data):
    assert left_by(graph_of("counts"), drawn(data, rows), data.draw(PLACES)) == model(rows)


def model(rows: Sequence[Row]) -> Table:
    """How many rows the newest life of each key has, one row at a time."""
    times, newest = dict[str, list[int]](), dict[int, int]()
    for number, key, at in rows:
        reached = newest.get(number, at)
        if at >= reached - LATENESS:
            times.setdefault(key, []).append(at)
        newest[number] = max(reached, at)
    oldest = max(newest.values(), default=0) - LATENESS - TTL
    table = Table()
    for key, ats in times.items():
        life = [max(ats)]
        for at in sorted(ats, reverse=True)[1:]:
            if life[-1] - at > TTL:
                break
            life.append(at)
        if life[0] >= oldest - oldest % STEP:
            table[key,] = (len(life),)
    return table
