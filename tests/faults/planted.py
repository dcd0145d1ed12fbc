"""Mistakes put into a worker on purpose: an oracle that does not catch them proves nothing.

``SC_FAULT_PLANTED=NAME`` in the environment of a nursery's worker. The product knows nothing of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
from faust.types import TP

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import Records
from streamcore.deadletter.writer import DeadLetterWriter
from streamcore.errors import Transient
from streamcore.passage import Logged
from streamcore.references.postgres import PostgresReader
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.state_logs import StateLog, StateLogWriter
from streamcore.sinks import file_seals, folder_storage
from streamcore.sinks.postgres_statements import Statements
from streamcore.sinks.topic import TopicWriter
from streamcore.state.log_record import Entry
from streamcore.stateful_task import StatefulTask
from streamcore.transport import kafka_transactions
from streamcore.transport.kafka_transactions import KafkaTransactions
from tests.faults import planted_sinks
from tests.faults.planted_sinks import SLOW_SECONDS, nobody_looks, put

VARIABLE = "SC_FAULT_PLANTED"


def plant(name: str) -> None:
    """Make this process commit the mistake *name*; none when it is empty."""
    if name:
        MISTAKES[name]()


def _commit_before_the_sink() -> None:
    """The group's commit is what was handed to the sinks; the sink is a little slow, as sinks are."""

    def commit_position(self: Pipeline, tp: TP) -> int | None:
        source = self._sources.get(tp)
        return self.processed.get(source) if source else None

    write = TopicWriter.write

    async def slow(self: TopicWriter, batch: Batch) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await write(self, batch)

    put(Pipeline, "commit_position", commit_position)
    put(TopicWriter, "write", slow)


def _no_fence() -> None:
    """PostgreSQL's positions are set whoever owns them and wherever they stand, and nobody looks."""
    right = Statements.compare_and_set

    def blind(self: Statements) -> str:
        sql: str = right.__get__(self)
        kept, fence = sql.split(" and p.next_offset = n.start")
        assert "owner_epoch" in fence
        return kept

    put(Statements, "compare_and_set", property(blind))
    nobody_looks()


def _dead_letters_not_awaited() -> None:
    """Dead letters are on their way, a little slowly, when the position passes them."""
    append, under_way = DeadLetterWriter.append, set[asyncio.Task[None]]()

    async def later(*arguments: Any, **named: Any) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await append(*arguments, **named)

    async def forget(*arguments: object, **named: object) -> None:
        under_way.add(asyncio.create_task(later(*arguments, **named)))

    put(DeadLetterWriter, "append", forget)


def _seals_not_checked() -> None:
    """A seal that exists is overwritten."""

    def link(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if os.path.exists(target):
            os.unlink(target)
        os.link(source, target)

    def unchecked(self: file_seals.SealChain, *arguments: object) -> None:
        seal = self._place(f"{self.position:020d}-{self._turn:06d}")
        Path(seal).unlink(missing_ok=True)
        add(self, *arguments)  # type: ignore[arg-type]

    add = file_seals.SealChain.add
    put(folder_storage, "os", SimpleNamespace(**{**vars(os), "link": link}))
    put(file_seals.SealChain, "add", unchecked)


def _repeats_in_the_log_counted() -> None:
    """What is in a window's log twice is counted twice: only holes are looked for."""

    def everything(self: StatefulTask, entry: Entry) -> pl.DataFrame | None:
        read = self._upstream[entry.upstream]
        assert entry.start <= (entry.start if read.covered is None else read.covered)
        read.covered = max(entry.end, read.covered or 0)
        read.idle, read.watermark = entry.idle, max(read.watermark, entry.watermark)
        return entry.rows

    put(StatefulTask, "_new", everything)


def _state_begins_at_the_commit() -> None:
    """A window's log is read from where the group stands: the state before it is gone, and the numbers."""
    init = KeptState.__init__

    def late(
        self: KeptState, log: StateLog, emissions: PartitionId, first: int, committed: int, *end: int
    ) -> None:
        init(self, log, emissions, max(first, committed), committed, *end)
        self._snapshots = None  # nor is a snapshot waited for

    put(KeptState, "__init__", late)


def _watermark_of_another_position() -> None:
    """Rows that are judged again are judged by the watermark at the end of the log, which is too new."""

    async def before(self: StateLogWriter, source: PartitionId, position: int) -> Logged:
        return Logged(position, self.logged[source].watermark)

    put(StateLogWriter, "before", before)


def _transactions_fence_nobody() -> None:
    """Each process has transactional ids of its own: a former owner's transaction is committed beside."""
    right = kafka_transactions.AIOKafkaProducer

    def own(**options: Any) -> object:
        options["transactional_id"] += f"-{os.getpid()}"
        return right(**options | {"transaction_timeout_ms": 60_000})  # longer than the zombie sleeps

    put(kafka_transactions, "AIOKafkaProducer", own)


def _position_outside_of_the_transaction() -> None:
    """The rows are committed, and a little later, in a transaction of its own, the position."""
    commit = KafkaTransactions.commit

    async def twice(self: KafkaTransactions, position: int, records: Records | None = None) -> None:
        if self._claimed:
            await commit(self, self.last, records)
            await asyncio.sleep(SLOW_SECONDS)
        await commit(self, position)
        self.last = position

    KafkaTransactions.last = 0  # type: ignore[attr-defined]
    put(KafkaTransactions, "commit", twice)


def _lookups_do_not_wait() -> None:
    """While a reference can't be reached, its rows are missing ones."""
    right = PostgresReader.rows

    async def hasty(self: PostgresReader, keys: pl.DataFrame) -> pl.DataFrame:
        try:
            return await right(self, keys)
        except Transient:
            return pl.DataFrame(schema=self._reference.types)

    put(PostgresReader, "rows", hasty)


MISTAKES: dict[str, Callable[[], None]] = {
    **planted_sinks.MISTAKES,
    "commit_before_the_sink": _commit_before_the_sink,
    "no_fence": _no_fence,
    "dead_letters_not_awaited": _dead_letters_not_awaited,
    "seals_not_checked": _seals_not_checked,
    "repeats_in_the_log_counted": _repeats_in_the_log_counted,
    "state_begins_at_the_commit": _state_begins_at_the_commit,
    "lookups_do_not_wait": _lookups_do_not_wait,
    "position_outside_of_the_transaction": _position_outside_of_the_transaction,
    "transactions_fence_nobody": _transactions_fence_nobody,
    "watermark_of_another_position": _watermark_of_another_position,
}
