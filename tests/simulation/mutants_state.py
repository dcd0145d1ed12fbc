"""Planted mistakes of event time, state, its logs and snapshots: see :mod:`.mutants`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import polars as pl

from streamcore import task as partition_tasks
from streamcore.batch import PartitionId
from streamcore.event_time import BEGINNING, Judged
from streamcore.passage import Logged, Passage, Stage
from streamcore.runtime import state_logs
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.snapshots import Snapshots
from streamcore.runtime.state_logs import StateLog, StateLogWriter
from streamcore.state.log_record import Entry
from streamcore.state.snapshot import Snapshot, SnapshotReader
from streamcore.stateful_task import StatefulTask, _Read
from streamcore.windows.operator import WindowOperator


def lateness_per_batch() -> Iterator[Any]:
    """All rows of a batch are judged by the watermark before it."""

    def judge(times: np.ndarray, watermark: int, max_lateness: int) -> Judged:
        newest = int(times.max()) - max_lateness if len(times) else watermark
        return Judged(times < watermark, max(watermark, newest), np.maximum(watermark - times, 0))

    yield mock.patch.object(partition_tasks, "judge", judge)


def changelog_applied_twice() -> Iterator[Any]:
    """What is in a log of state twice is counted twice: only holes are looked for."""

    def everything(self: StatefulTask, entry: Entry) -> pl.DataFrame | None:
        read = self._upstream[entry.upstream]
        read.covered = max(entry.end, read.covered or 0)
        read.idle, read.watermark = entry.idle, max(read.watermark, entry.watermark)
        return entry.rows

    yield mock.patch.object(StatefulTask, "_new", everything)


def trimmed_too_early() -> Iterator[Any]:
    """A log is cut as soon as a snapshot is asked for: it may never be complete."""
    look = Snapshots.look

    def eager(self: Snapshots, source: PartitionId, kept: KeptState, end: int) -> None:
        look(self, source, kept, end)
        if source in self._written:
            self.cut = asyncio.ensure_future(self._log.trim(source.topic, source.partition, end))  # type: ignore[attr-defined]

    yield mock.patch.object(Snapshots, "look", eager)


def trimmed_past_the_sinks() -> Iterator[Any]:
    """A log is cut at a snapshot though a sink lacks what came out before it."""
    trim = Snapshots.trim

    async def blind(self: Snapshots, source: PartitionId, settled: int) -> None:
        await trim(self, source, 1 << 60)

    yield mock.patch.object(Snapshots, "trim", blind)


def torn_snapshot_taken() -> Iterator[Any]:
    """A snapshot counts as complete with its first record, and what is missing as empty."""
    add = SnapshotReader.add

    def first(self: SnapshotReader, value: bytes) -> Snapshot | None:
        whole = add(self, value)
        if whole is None and self._parts:
            return self._parts.pop(next(iter(self._parts))).snapshot()
        return whole

    yield mock.patch.object(SnapshotReader, "add", first)


def snapshot_forgets_what_was_read() -> Iterator[Any]:
    """A snapshot has the state, but not up to where each upstream partition is in it."""
    restore = StatefulTask.restore

    def forgetful(self: StatefulTask, snapshot: Snapshot) -> None:
        restore(self, snapshot)
        for upstream in snapshot.reads:
            self._upstream[upstream] = _Read()

    yield mock.patch.object(StatefulTask, "restore", forgetful)


def watermark_of_another_partition() -> Iterator[Any]:
    """A window closes by the partition that is farthest ahead."""

    def highest(self: StatefulTask) -> int:
        return max(read.watermark for read in self._upstream.values())

    yield mock.patch.object(StatefulTask, "_lowest", highest)


def watermark_of_what_came() -> Iterator[Any]:
    """Partitions of which nothing has come yet are not waited for."""
    lowest = StatefulTask._lowest

    def known(self: StatefulTask) -> int:
        marks = [read.watermark for read in self._upstream.values() if read.watermark > BEGINNING]
        return min(marks, default=BEGINNING) if marks else lowest(self)

    yield mock.patch.object(StatefulTask, "_lowest", known)


def late_rows_counted_twice() -> Iterator[Any]:
    """A late row is in late() and in its window, if that is open still."""

    def all_rows(self: Stage, run: Passage, node: str, frame: pl.DataFrame) -> pl.DataFrame:
        late, run.late = run.late, run.late.clear()
        found = in_time(self, run, node, frame)
        run.late = late
        return found

    in_time = Stage._in_time
    yield mock.patch.object(Stage, "_in_time", all_rows)


def state_begins_at_the_commit() -> Iterator[Any]:
    """A log of state is read from where the group stands: the state before it is gone, and the numbers."""
    init = KeptState.__init__

    def late(
        self: KeptState,
        log: StateLog,
        out: PartitionId,
        first: int,
        committed: int,
        *end: Any,
        **named: Any,
    ) -> None:
        init(self, log, out, max(first, committed), committed, *end, **named)
        self._snapshots = None

    yield mock.patch.object(KeptState, "__init__", late)


def judged_by_the_newest_watermark() -> Iterator[Any]:
    """Rows that are judged again are judged by the watermark at the end of the log, which is too new."""

    async def before(self: StateLogWriter, source: PartitionId, position: int) -> Logged:
        return Logged(position, self.logged[source].watermark)

    yield mock.patch.object(StateLogWriter, "before", before)


def log_resumed_at_its_farthest_partition() -> Iterator[Any]:
    """Who takes a source over goes on behind the newest record in any partition of a log."""
    yield mock.patch.object(state_logs, "min", max, create=True)  # its only min()


def overlap_not_cut() -> Iterator[Any]:
    """A record of the log that is known in part is taken whole."""
    yield mock.patch.object(Entry, "after", lambda self, position: self.rows)


def numbers_of_cuts() -> Iterator[Any]:
    """Windows that close together are numbered by their keys: another cut gives other numbers."""
    numbered = WindowOperator._numbered

    def by_key(self: WindowOperator, closed: pl.DataFrame, number: int) -> pl.DataFrame:
        made = numbered(self, closed, number)
        if not self.by or not made.height:
            return made
        offsets = made["_offset"]
        return made.sort(self.by, maintain_order=True).with_columns(offsets)

    yield mock.patch.object(WindowOperator, "_numbered", by_key)


MISTAKES = (
    overlap_not_cut,
    numbers_of_cuts,
    lateness_per_batch,
    changelog_applied_twice,
    trimmed_too_early,
    trimmed_past_the_sinks,
    torn_snapshot_taken,
    snapshot_forgets_what_was_read,
    watermark_of_another_partition,
    watermark_of_what_came,
    late_rows_counted_twice,
    state_begins_at_the_commit,
    judged_by_the_newest_watermark,
    log_resumed_at_its_farthest_partition,
)
