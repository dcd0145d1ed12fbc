"""Windows that late rows update: which rows count is the same in any cut, and so is the table in the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import OFFSET, PartitionId
from streamcore.event_time import END
from streamcore.passage import LATE
from streamcore.state.log_record import Entry
from streamcore.stateful_task import StatefulTask
from streamcore.testing import TopologyDriver
from streamcore.windows.assigners import Aligned, Session, WindowKind
from tests.property.rereading import reread
from tests.unit.topology.collecting import Collect

COLUMNS = {"key": "string", "t": "int64", "v": "int64"}
KINDS: dict[str, WindowKind] = {
    "tumbling": sc.tumbling("10ms"),
    "hopping": sc.hopping("10ms", every="4ms"),
    "session": sc.session("5ms"),
    "global": sc.global_window(),
}
LATENESS, ALLOWED = 2, 9
ROWS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 60)), max_size=25)
CUTS = st.lists(st.sampled_from([TopologyDriver.CUT, TopologyDriver.CRASH, None]), min_size=25, max_size=25)
Row = tuple[int, str, int]
Table = dict[tuple[str, int], tuple[int, list[int]]]


def topology_of(kind: WindowKind, *, table: bool = False) -> sc.Topology:
    topology = sc.Topology("t")
    stream = topology.stream("s", COLUMNS, event_time="t", max_lateness=f"{LATENESS}ms")
    windows = stream.window(kind, late_updates=f"{ALLOWED}ms").by("key")
    aggregates = {"n": "count(*)", "ts": "list(t)"}
    made = windows.table(name="w", **aggregates) if table else windows.aggregate(name="w", **aggregates)
    made.changelog().to(Collect("out"))
    return topology


def model(kind: WindowKind, rows: Sequence[Row]) -> tuple[Table, int]:
    """The windows of all rows that are late by no more than what is allowed; and how many are too late."""
    newest: dict[int, int] = {}
    counted = list[tuple[str, int, int, int]]()
    too_late = 0
    for place, (partition, key, t) in enumerate(rows):
        watermark = newest.get(partition, -(10**9)) - LATENESS
        newest[partition] = max(newest.get(partition, t), t)
        if t < watermark - ALLOWED:
            too_late += 1
            continue
        counted.append((key, t, partition, place))
    windows = (sessions if isinstance(kind, Session) else aligned)(kind, sorted(counted))  # type: ignore[operator]
    return {key: (len(own), own) for key, own in windows.items()}, too_late


def aligned(kind: Aligned, counted: Sequence[tuple[str, int, int, int]]) -> dict[tuple[str, int], list[int]]:
    windows: dict[tuple[str, int], list[int]] = {}
    for key, t, *_ in counted:
        for start in range(t - kind.size // 1_000 + 1, t + 1):
            if start % (kind.every // 1_000) == 0:
                windows.setdefault((key, start), []).append(t)
    return windows


def sessions(kind: Session, counted: Sequence[tuple[str, int, int, int]]) -> dict[tuple[str, int], list[int]]:
    windows: dict[tuple[str, int], list[int]] = {}
    for key, t, *_ in counted:
        newest = max((start for k, start in windows if k == key), default=None)
        near = newest is not None and t - windows[key, newest][-1] <= kind.gap // 1_000
        windows.setdefault((key, newest if near and newest is not None else t), []).append(t)
    return windows


@pytest.mark.parametrize("table", [False, True], ids=["final", "table"])
@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=15)
@given(rows=ROWS, cuts=CUTS)
def test_the_last_row_of_each_window_is_the_models_in_any_cut(name, table, rows, cuts):
    driver = TopologyDriver(topology_of(KINDS[name], table=table), partitions=2)
    for partition, given_rows in _batches(rows, cuts):
        driver.push("s", given_rows, partition=partition)
    driver.end()
    last: dict[tuple[str, int], tuple[int, list[int]]] = {}
    for row in driver.rows("out"):
        last.pop((row["key"], row["window_start"]), None)
        if row["op"] == "upsert":
            last[row["key"], row["window_start"]] = (row["n"], row["ts"])
    expected, too_late = model(KINDS[name], rows)
    assert last == expected
    if TopologyDriver.CRASH not in cuts[: len(rows)]:  # who is late is then counted twice
        assert driver.counts.get(("w", LATE), 0) == too_late


def _batches(rows: Sequence[Row], cuts: Sequence[object]) -> list[tuple[int, list[object]]]:
    """*rows* in batches of a partition; a crash lies behind the row that has it."""
    batches: list[tuple[int, list[object]]] = []
    for (partition, key, t), cut in zip(rows, cuts, strict=False):
        if not batches or batches[-1][0] != partition:
            batches.append((partition, []))
        batches[-1][1].append({"key": key, "t": t, "v": 0})
        if cut is not None:
            batches[-1][1].append(cut)
    return batches


@pytest.mark.parametrize(("name", "table"), [("tumbling", False), ("session", False), ("session", True)])
@settings(deadline=None, max_examples=15)
@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 60)), min_size=1, max_size=15),
    cuts=st.lists(st.integers(0, 15), max_size=4),
    data=st.data(),
)
def test_a_logs_records_give_the_same_updates_with_the_same_numbers(name, table, rows, cuts, data):
    """However they are put together, and also when another process goes on from a snapshot."""
    graph = topology_of(KINDS[name], table=table).freeze()
    watermark, entries = 0, []
    for i, (t, move) in enumerate(rows):
        watermark = max(watermark, move * 1_000)
        frame = pl.DataFrame({"key": ["a"], "t": [t], OFFSET: [i]})
        entries.append(Entry(("s", 0), i, i + 1, watermark, False, "", frame))
    entries.append(Entry(("s", 0), len(rows), len(rows), END, False, "", None))

    def emitted(groups: Sequence[Sequence[Entry]], snapshot: int) -> list[tuple[object, ...]]:
        task, found = StatefulTask(graph, "w", PartitionId("w", 0, "id"), [("s", 0)]), []
        for number, group in enumerate(groups):
            if number == snapshot:
                before = task.snapshot(0)
                task = StatefulTask(graph, "w", PartitionId("w", 0, "id"), [("s", 0)])
                task.restore(reread(before, task))
            outcome = task.on_entries(group) if group else None
            if outcome is not None and "out" in outcome.writes:
                found += outcome.writes["out"].frame.drop("number", "_sub", "_op").rows()
        return found

    bounds = [0, *sorted(min(cut, len(entries)) for cut in cuts), len(entries)]
    groups = [entries[start:end] for start, end in pairwise(bounds)]
    whole = emitted([entries], -1)
    assert emitted(groups, data.draw(st.integers(0, len(groups)))) == whole
    assert emitted([[entry] for entry in entries], 1) == whole
