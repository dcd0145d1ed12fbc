"""One stream's splits into one topic: read and made into records in threads, appended in the event loop.

Each split is read one chunk ahead and has a few appends on their way. What is confirmed of a split is a
prefix of it, partition by partition, so an attempt that failed goes on from what the topic holds.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import OFFSET, SUB, PartitionId
from streamcore.contracts import Log, SplitReader
from streamcore.crashpoints import crash_point
from streamcore.progress import Rejected, SplitProgress
from streamcore.runtime.feeding.marks import Mark, Written
from streamcore.runtime.feeding.records import Label, RowMaker, Rows
from streamcore.runtime.planning import StreamPlan

ON_THEIR_WAY = 4
"""Appends of one split that are not confirmed yet."""


T = TypeVar("T")


class _Sent(NamedTuple):
    """Rows of which those at places *keep* are on their way."""

    rows: Rows
    keep: npt.NDArray[np.intp]
    outcome: Awaitable[None]


class Feeder:
    """Feeds *plan* into the topic of *mark*; *clock* gives seconds since 1970.

    ``rows``, ``bytes`` and ``rejected`` count what this process brought in, confirmed.
    """

    def __init__(
        self,
        plan: StreamPlan,
        mark: Mark,
        log: Log,
        executor: Executor,
        max_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._plan, self._mark, self._log = plan, mark, log
        self._executor, self._max_bytes, self._clock = executor, max_bytes, clock
        self._maker = RowMaker(plan.part)
        self._ends = [0] * len(plan.splits)
        self.rows = self.bytes = 0
        self.rejected: dict[Rejected, int] = {}

    def splits(self) -> list[SplitProgress]:
        """How far each split is."""
        pairs = zip(self._plan.splits, self._ends, strict=True)
        return [SplitProgress(self._plan.part.name, split.name, end, split.size) for split, end in pairs]

    async def feed(self, number: int, written: Written, ending: Callable[[], bool]) -> bool:
        """Bring the rows of split *number* that are not *written* into the topic; False when *ending*
        said so before the last one.

        Raises as ``Log.append`` and ``SplitReader.read`` do. On return all that it began has settled.
        """
        await self._maker.start(self._mark.topic)
        source = PartitionId(self._mark.topic, number, self._mark.replay)
        label = written.first(number, self._begin(number))
        split, begin = self._plan.splits[number], label
        reader = await self._in_thread(lambda: split.open(source, begin.first, begin.bookmark))
        sent: deque[_Sent] = deque()
        ahead = self._read(reader)
        try:
            while (rows := await ahead) is not None and not ending():
                ahead = self._read(reader)
                while any(_failed(s.outcome) for s in sent):  # raises: nothing may overtake what failed
                    await self._confirm(number, sent.popleft())
                sent.append(await self._append(label, rows, written))
                label = label._replace(first=rows.end, bookmark=rows.bookmark)
                while len(sent) > ON_THEIR_WAY:
                    await self._confirm(number, sent.popleft())
            while sent:
                await self._confirm(number, sent.popleft())
            return rows is None
        finally:
            await asyncio.gather(ahead, *(s.outcome for s in sent), return_exceptions=True)
            await self._in_thread(reader.close)

    def _read(self, reader: SplitReader) -> asyncio.Future[Rows | None]:
        def read() -> Rows | None:
            chunk = reader.read(self._max_bytes)
            return None if chunk is None else self._maker.make(chunk)

        return self._in_thread(read)

    def _begin(self, number: int) -> Label:
        """Where split *number* began when the run did: another process may have cut the source elsewhere."""
        bookmarks = self._mark.bookmarks
        bookmark = base64.b64decode(bookmarks[number]) if bookmarks else b""
        return Label(self._mark.replay, number, 0, bookmark)

    async def _append(self, label: Label, rows: Rows, written: Written) -> _Sent:
        partitions = rows.partitions(written.partitions)
        keep = _missing(label.split, rows, partitions, written)
        records = rows.records(keep, partitions, label, int(self._clock() * 1000))
        outcome = await self._log.append(self._mark.topic, records)
        crash_point("feeding.appended")
        return _Sent(rows, keep, outcome)

    async def _confirm(self, number: int, sent: _Sent) -> None:
        await sent.outcome
        rows = sent.rows
        self.rows += len(sent.keep)
        self.bytes += rows.nbytes
        self._ends[number] = rows.end
        if rows.refused.height:
            new = rows.refused.filter(pl.col(OFFSET).is_in(rows.places[OFFSET].gather(sent.keep).implode()))
            for stage, code, count in new.group_by("stage", "code").len().iter_rows():
                self.rejected[Rejected(stage, code)] = self.rejected.get(Rejected(stage, code), 0) + count

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, call)


def _failed(outcome: Awaitable[None]) -> bool:
    if not isinstance(outcome, asyncio.Future) or not outcome.done():
        return False
    return outcome.cancelled() or outcome.exception() is not None


def _missing(
    number: int, rows: Rows, partitions: npt.NDArray[np.int32], written: Written
) -> npt.NDArray[np.intp]:
    """The places of the rows that their partition does not have yet."""
    positions, subs = rows.places[OFFSET].to_numpy(), rows.places[SUB].to_numpy()
    missing = np.ones(len(rows), bool)
    for partition in range(written.partitions):
        last = written.last.get((partition, number))
        if last is not None:
            later = (positions > last.position) | ((positions == last.position) & (subs > last.sub))
            missing &= later | (partitions != partition)
    return np.flatnonzero(missing)
