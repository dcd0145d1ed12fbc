"""Mistakes put into streamcore on purpose: a simulation that does not catch them proves nothing.

Each is a way in which this code, or another of its kind, could really be wrong; the product knows nothing of
them. ``mutants.json`` has for each a seed that catches it; ``make sim-mutants`` looks for them anew.

Many are told as "not at rest": streamcore sees that something is amiss, and each worker ends with a
Permanent, again and again. A user would see a pipeline that stands still:

- trimmed_too_early: "its log has lost what was before its first record";
- mask_left_out, and wrong_minimum at times: "this batch does not follow the one before it", from the sink;
- wrong_minimum, log_resumed_at_its_farthest_partition, lost_append_forgotten, failures_confirmed: "the log
  has a hole".

Under results_given_again_are_held no worker ends: one waits for ever.

A patch must hold for the whole run. One that is undone behind an await stays for good where the process that
waits is killed: it then fails the runs that follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from faust.types import TP

from streamcore import task as partition_tasks
from streamcore.batch import Batch, Chunk, PartitionId
from streamcore.contracts import FlushReason
from streamcore.event_time import BEGINNING, Judged
from streamcore.passage import Logged, Passage, Stage
from streamcore.runtime import ledger, pipeline, state_logs
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.refusals import Refusals
from streamcore.runtime.sink_runner import SinkRunner
from streamcore.runtime.snapshots import Snapshots
from streamcore.runtime.state_logs import StateLog, StateLogWriter
from streamcore.sinks import file_seals
from streamcore.sinks.appending import AppendingWriter
from streamcore.sinks.postgres_statements import Statements
from streamcore.state.log_record import Entry
from streamcore.state.snapshot import Snapshot, SnapshotReader
from streamcore.stateful_task import StatefulTask, _Read

Mistake = Callable[[], Iterator[Any]]


def _commit_before_write() -> Iterator[Any]:
    """The group's commit is what was handed to the sinks, not what they confirmed."""

    def commit_position(self: Pipeline, tp: TP) -> int | None:
        source = self._sources.get(tp)
        return self.processed.get(source) if source else None

    yield mock.patch.object(Pipeline, "commit_position", commit_position)


def _statement_without(condition: str) -> Iterator[Any]:
    right = Statements.compare_and_set

    def blind(self: Statements) -> str:
        sql: str = right.__get__(self)
        assert condition in sql
        return sql.replace(condition, "")

    yield mock.patch.object(Statements, "compare_and_set", property(blind))


def _no_fence() -> Iterator[Any]:
    """The database's positions are set whoever owns them and wherever they stand."""
    return _statement_without(" and p.next_offset = n.start and p.owner_epoch = n.epoch")


def _lateness_per_batch() -> Iterator[Any]:
    """All rows of a batch are judged by the watermark before it."""

    def judge(times: np.ndarray, watermark: int, max_lateness: int) -> Judged:
        newest = int(times.max()) - max_lateness if len(times) else watermark
        return Judged(times < watermark, max(watermark, newest), np.maximum(watermark - times, 0))

    yield mock.patch.object(partition_tasks, "judge", judge)


def _wall_clock_rotation() -> Iterator[Any]:
    """A file ends where the clock says, and is named so: who comes next finds no seal that it would break."""
    add = file_seals.SealChain.add

    def unchecked(self: file_seals.SealChain, *arguments: Any) -> None:
        seal = self._seals / f"{self.position:020d}-{self._turn:06d}"
        while seal.exists():
            self._turn += 1
            seal = self._seals / f"{self.position:020d}-{self._turn:06d}"
        add(self, *arguments)

    def name(self: file_seals.SealChain, suffix: str) -> str:
        return f"{self.stream}-{self._partition.partition}-{self.position}-{self._owner}{suffix}"

    yield mock.patch.object(file_seals.SealChain, "add", unchecked)
    yield mock.patch.object(file_seals.SealChain, "output_name", name)


def _changelog_applied_twice() -> Iterator[Any]:
    """What is in a log of state twice is counted twice: only holes are looked for."""

    def everything(self: StatefulTask, entry: Entry) -> pl.DataFrame | None:
        read = self._upstream[entry.upstream]
        read.covered = max(entry.end, read.covered or 0)
        read.idle, read.watermark = entry.idle, max(read.watermark, entry.watermark)
        return entry.rows

    yield mock.patch.object(StatefulTask, "_new", everything)


def _trimmed_too_early() -> Iterator[Any]:
    """A log is cut as soon as a snapshot is asked for: it may never be complete."""
    look = Snapshots.look

    def eager(self: Snapshots, source: PartitionId, kept: KeptState, end: int) -> None:
        look(self, source, kept, end)
        if source in self._written:
            self.cut = asyncio.ensure_future(self._log.trim(source.topic, source.partition, end))  # type: ignore[attr-defined]

    yield mock.patch.object(Snapshots, "look", eager)


def _trimmed_past_the_sinks() -> Iterator[Any]:
    """A log is cut at a snapshot though a sink lacks what came out before it."""
    trim = Snapshots.trim

    async def blind(self: Snapshots, source: PartitionId, settled: int) -> None:
        await trim(self, source, 1 << 60)

    yield mock.patch.object(Snapshots, "trim", blind)


def _torn_snapshot_taken() -> Iterator[Any]:
    """A snapshot counts as complete with its first record, and what is missing as empty."""
    add = SnapshotReader.add

    def first(self: SnapshotReader, value: bytes) -> Snapshot | None:
        whole = add(self, value)
        if whole is None and self._parts:
            return self._parts.pop(next(iter(self._parts))).snapshot()
        return whole

    yield mock.patch.object(SnapshotReader, "add", first)


def _snapshot_forgets_what_was_read() -> Iterator[Any]:
    """A snapshot has the state, but not up to where each upstream partition is in it."""
    restore = StatefulTask.restore

    def forgetful(self: StatefulTask, snapshot: Snapshot) -> None:
        restore(self, snapshot)
        for upstream in snapshot.reads:
            self._upstream[upstream] = _Read()

    yield mock.patch.object(StatefulTask, "restore", forgetful)


def _mask_left_out() -> Iterator[Any]:
    """A sink gets whole batches, also of positions that it has."""

    def put(self: SinkRunner, batch: Batch) -> None:
        self._queue.append(batch)
        self._idle.clear()
        self._wake.set()

    yield mock.patch.object(SinkRunner, "put", put)


def _wrong_minimum() -> Iterator[Any]:
    """Reading goes on where the farthest sink is."""
    yield mock.patch.object(pipeline, "min", max, create=True)  # its only min()


def _farthest_sink_is_committed() -> Iterator[Any]:
    """The group commits what the first sink has confirmed."""

    def position(self: Ledger, source: PartitionId) -> int | None:
        entry = self._entries.get(source)
        return max(entry.sinks.values()) if entry else None

    yield mock.patch.object(ledger.Ledger, "position", position)


def _watermark_of_another_partition() -> Iterator[Any]:
    """A window closes by the partition that is farthest ahead."""

    def highest(self: StatefulTask) -> int:
        return max(read.watermark for read in self._upstream.values())

    yield mock.patch.object(StatefulTask, "_lowest", highest)


def _watermark_of_what_came() -> Iterator[Any]:
    """Partitions of which nothing has come yet are not waited for."""
    lowest = StatefulTask._lowest

    def known(self: StatefulTask) -> int:
        marks = [read.watermark for read in self._upstream.values() if read.watermark > BEGINNING]
        return min(marks, default=BEGINNING) if marks else lowest(self)

    yield mock.patch.object(StatefulTask, "_lowest", known)


def _dead_letters_not_awaited() -> Iterator[Any]:
    """Dead letters are on their way when the position passes them."""
    append = Refusals.append

    async def later(*arguments: Any) -> None:
        await asyncio.sleep(0.2)
        await append(*arguments)

    async def forget(self: Refusals, *arguments: Any) -> None:
        self.later = [*getattr(self, "later", []), asyncio.ensure_future(later(self, *arguments))]  # type: ignore[attr-defined]

    yield mock.patch.object(Refusals, "append", forget)


def _late_rows_counted_twice() -> Iterator[Any]:
    """A late row is in late() and in its window, if that is open still."""

    def all_rows(self: Stage, run: Passage, node: str, frame: pl.DataFrame) -> pl.DataFrame:
        late, run.late = run.late, run.late.clear()
        found = in_time(self, run, node, frame)
        run.late = late
        return found

    in_time = Stage._in_time
    yield mock.patch.object(Stage, "_in_time", all_rows)


def _state_begins_at_the_commit() -> Iterator[Any]:
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


def _judged_by_the_newest_watermark() -> Iterator[Any]:
    """Rows that are judged again are judged by the watermark at the end of the log, which is too new."""

    async def before(self: StateLogWriter, source: PartitionId, position: int) -> Logged:
        return Logged(position, self.logged[source].watermark)

    yield mock.patch.object(StateLogWriter, "before", before)


def _log_resumed_at_its_farthest_partition() -> Iterator[Any]:
    """Who takes a source over goes on behind the newest record in any partition of a log."""
    yield mock.patch.object(state_logs, "min", max, create=True)  # its only min()


def _lost_append_forgotten() -> Iterator[Any]:
    """After a failed append only what came after it is held; what had failed is not sent again."""
    collect = AppendingWriter._collect

    def forgetful(self: AppendingWriter) -> None:
        held = list(self._held)
        try:
            collect(self)
        except Exception:
            self._hold(held)
            raise

    yield mock.patch.object(AppendingWriter, "_collect", forgetful)


def _failures_confirmed() -> Iterator[Any]:
    """What an append's failure leaves behind counts as written."""

    async def flush(self: AppendingWriter, reason: FlushReason) -> Mapping[PartitionId, int]:
        if self._held:
            await self._append(self._held)
        for sent in self._sent:
            self._confirmed.update((batch.source, batch.range.end) for batch in sent.batches)
        self._sent.clear()
        return dict(self._confirmed)

    yield mock.patch.object(AppendingWriter, "flush", flush)


def _results_given_again_are_held() -> Iterator[Any]:
    """What all sinks have takes of the memory limit as well, and no confirmation gives it back."""

    def took(self: Ledger, chunk: Chunk, columns: int = 0) -> None:
        self._entries[chunk.source].taken.append((chunk.end, chunk.nbytes + columns))
        self._bytes += chunk.nbytes + columns

    yield mock.patch.object(Ledger, "took", took)


MISTAKES: dict[str, Mistake] = {
    function.__name__[1:]: function
    for function in (
        _commit_before_write,
        _no_fence,
        _lateness_per_batch,
        _wall_clock_rotation,
        _changelog_applied_twice,
        _trimmed_too_early,
        _trimmed_past_the_sinks,
        _torn_snapshot_taken,
        _snapshot_forgets_what_was_read,
        _mask_left_out,
        _wrong_minimum,
        _farthest_sink_is_committed,
        _watermark_of_another_partition,
        _watermark_of_what_came,
        _dead_letters_not_awaited,
        _late_rows_counted_twice,
        _state_begins_at_the_commit,
        _judged_by_the_newest_watermark,
        _log_resumed_at_its_farthest_partition,
        _lost_append_forgotten,
        _failures_confirmed,
        _results_given_again_are_held,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Commit the mistake *name* while the context is open; none when it is empty."""
    with ExitStack() as stack:
        for patch in MISTAKES[name]() if name else ():
            stack.enter_context(patch)
        yield
