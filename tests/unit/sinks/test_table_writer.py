"""The writer of tables on a database that the test holds in its hand, without savepoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np
import polars as pl
import pytest

from streamcore.batch import Batch, PartitionId, Range, RecordChunk, Rejects, hide
from streamcore.contracts import FlushReason, SinkContext
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.fence import Move, Stored, StoredKey
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.sql import RefusedRows

PART = PartitionId("in", 0, "cluster/uuid")
BAD = 3


class HandDatabase:
    """Database, fence, table and session in one. It takes no row whose id is :data:`BAD`."""

    system, savepoints, checks = "hand", False, ColumnChecks([], ())

    def __init__(self) -> None:
        self.position, self.ids = 0, list[int]()

    @property
    def fence(self) -> HandDatabase:
        return self

    async def connect(self) -> HandDatabase:
        return self

    async def prepare(self, session: HandDatabase, columns: pl.Schema) -> HandDatabase:
        return self

    async def begin(self, session: HandDatabase) -> None: ...
    async def refuse_at_once(self, session: HandDatabase) -> None: ...
    async def close(self) -> None: ...
    def abort(self) -> None: ...
    async def end_sessions(self, session: HandDatabase, owners: Iterable[str]) -> None: ...

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        before = self.position, [*self.ids]
        try:
            yield
        except BaseException:
            self.position, self.ids = before
            raise

    async def write(self, session: HandDatabase, frame: pl.DataFrame) -> None:
        ids = frame["id"].to_list()
        if BAD in ids:
            raise RefusedRows("no", code="no", where="hand", places=[ids.index(BAD)], complete=True)
        self.ids += ids

    async def take_over(
        self, session: HandDatabase, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        return {partition: Stored(self.position, 1, owner) for partition in starts}

    async def stored(self, session: HandDatabase) -> Mapping[StoredKey, Stored]:
        return {(PART.topic_id, PART.partition): Stored(self.position, 1, "w")}

    async def move(self, session: HandDatabase, moves: Sequence[Move]) -> bool:
        self.position = moves[0].end
        return True


async def test_who_is_cancelled_while_a_refused_row_waits_refuses_it_again() -> None:
    waiting, refused = asyncio.Event(), list[int]()

    async def refuse(batch: Batch, rejects: Rejects) -> None:
        if not waiting.is_set():
            waiting.set()
            await asyncio.sleep(60)  # the log is slow; it never hears of the row
        refused.extend(rejects.frame["_offset"])

    context = SinkContext(
        topology="t", sink="hand", columns=pl.Schema({"id": pl.Int64}), key=(), event_time=None,
        clock=lambda: 0.0, owner="w", refuse=refuse, memory_limit=1 << 20, crash_point=lambda name: None,
        log=None,  # type: ignore[arg-type]
    )  # fmt: skip
    database, ids = HandDatabase(), np.arange(6)
    writer = TableWriter(database, context)
    await writer.start()
    await writer.open({PART: 0})
    chunk = RecordChunk(PART, ids, [b"v"] * 6)
    await writer.write(Batch(hide(pl.DataFrame({"id": ids}), ids), {PART: Range(0, 6)}, chunk))
    flush = asyncio.create_task(writer.flush(FlushReason.TIMER))
    await waiting.wait()
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    assert await writer.flush(FlushReason.END) == {PART: 6}
    assert (database.ids, refused) == ([0, 1, 2, 4, 5], [BAD])
