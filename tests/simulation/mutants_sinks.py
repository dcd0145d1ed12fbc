"""Planted mistakes of sinks, commits, dead letters and appends: see :mod:`.mutants`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from unittest import mock

from faust.types import TP

from streamcore.batch import Batch, Chunk, PartitionId, Rejects
from streamcore.contracts import FlushReason
from streamcore.passage import RowId
from streamcore.runtime import ledger, pipeline
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.refusals import Refusals
from streamcore.runtime.sink_runner import SinkRunner
from streamcore.sinks import file_seals
from streamcore.sinks.appending import AppendingWriter
from streamcore.sinks.postgres_statements import Statements
from streamcore.sinks.table_writer import TableWriter


def commit_before_write() -> Iterator[Any]:
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


def no_fence() -> Iterator[Any]:
    """The database's positions are set whoever owns them and wherever they stand."""
    return _statement_without(" and p.next_offset = n.start and p.owner_epoch = n.epoch")


def wall_clock_rotation() -> Iterator[Any]:
    """A file ends where the clock says, and is named so: who comes next finds no seal that it would break."""
    add = file_seals.SealChain.add

    def unchecked(self: file_seals.SealChain, *arguments: Any) -> None:
        while self._shelf.has(f"{self.position:020d}-{self._turn:06d}"):
            self._turn += 1
        add(self, *arguments)

    def name(self: file_seals.SealChain, suffix: str) -> str:
        return f"{self.stream}-{self._partition.partition}-{self.position}-{self._who['owner']}{suffix}"

    yield mock.patch.object(file_seals.SealChain, "add", unchecked)
    yield mock.patch.object(file_seals.SealChain, "output_name", name)


def mask_left_out() -> Iterator[Any]:
    """A sink gets whole batches, also of positions that it has."""

    def put(self: SinkRunner, batch: Batch) -> None:
        self._queue.append(batch)
        self._idle.clear()
        self._rouse()

    yield mock.patch.object(SinkRunner, "put", put)


def wrong_minimum() -> Iterator[Any]:
    """Reading goes on where the farthest sink is."""
    yield mock.patch.object(pipeline, "min", max, create=True)  # its only min()


def farthest_sink_is_committed() -> Iterator[Any]:
    """The group commits what the first sink has confirmed."""

    def position(self: Ledger, source: PartitionId) -> int | None:
        entry = self._entries.get(source)
        return max(entry.sinks.values()) if entry else None

    yield mock.patch.object(ledger.Ledger, "position", position)


def dead_letters_not_awaited() -> Iterator[Any]:
    """Dead letters are on their way when the position passes them."""
    append = Refusals.append

    async def later(*arguments: Any, **options: Any) -> None:
        await asyncio.sleep(0.2)
        await append(*arguments, **options)

    async def forget(self: Refusals, *arguments: Any, **options: Any) -> None:
        self.later = [*getattr(self, "later", []), asyncio.ensure_future(later(self, *arguments, **options))]  # type: ignore[attr-defined]

    yield mock.patch.object(Refusals, "append", forget)


def lost_append_forgotten() -> Iterator[Any]:
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


def failures_confirmed() -> Iterator[Any]:
    """What an append's failure leaves behind counts as written."""

    async def flush(self: AppendingWriter, reason: FlushReason) -> Mapping[PartitionId, int]:
        if self._held:
            await self._append(self._held)
        for sent in self._sent:
            self._confirmed.update((batch.source, batch.range.end) for batch in sent.batches)
        self._sent.clear()
        return dict(self._confirmed)

    yield mock.patch.object(AppendingWriter, "flush", flush)


def results_given_again_are_held() -> Iterator[Any]:
    """What all sinks have takes of the memory limit as well, and no confirmation gives it back."""

    def took(self: Ledger, chunk: Chunk, columns: int = 0) -> None:
        self._entries[chunk.source].taken.append((chunk.end, chunk.nbytes + columns))
        self._bytes += chunk.nbytes + columns

    yield mock.patch.object(Ledger, "took", took)


def dead_letters_not_known_again() -> Iterator[Any]:
    """Who takes over does not ask which rows are dead letters already: some are written as well."""

    async def nothing(self: Refusals, source: PartitionId, position: int) -> Collection[RowId]:
        self._below[source] = position
        return []

    yield mock.patch.object(Refusals, "known", nothing)


def refused_by_anyone() -> Iterator[Any]:
    """The dead letter of a row that the database refused can be sent by a former owner too."""
    append = Refusals.append

    async def freely(
        self: Refusals, chunk: Chunk, rejects: Rejects, processed: int, *, as_owner: bool = False
    ) -> None:
        await append(self, chunk, rejects, processed)

    yield mock.patch.object(Refusals, "append", freely)


def commit_lost_means_not_written() -> Iterator[Any]:
    """After a COMMIT whose reply was lost everything is written again, without a look at the position."""

    async def trusting(self: TableWriter[Any], session: Any) -> None:
        stored = await self._database.fence.stored(session)
        for partition, part in self._parts.items():
            if found := stored.get((partition.topic_id, partition.partition)):
                part.position = found.position

    yield mock.patch.object(TableWriter, "_reconcile", trusting)


MISTAKES = (
    dead_letters_not_known_again,
    refused_by_anyone,
    commit_lost_means_not_written,
    commit_before_write,
    no_fence,
    wall_clock_rotation,
    mask_left_out,
    wrong_minimum,
    farthest_sink_is_committed,
    dead_letters_not_awaited,
    lost_append_forgotten,
    failures_confirmed,
    results_given_again_are_held,
)
