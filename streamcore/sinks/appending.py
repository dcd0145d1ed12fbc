"""Writing batches to a topic of the worker's own log: held, appended together, confirmed in order."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, Log, Records

APPEND_ROWS = 16_384
"""Held rows that are appended at once; fewer wait for more until the next flush."""
_LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)


@dataclass(frozen=True, slots=True)
class _Sent:
    """Batches that were appended together: ``outcome`` is None when they had no rows."""

    batches: Sequence[Batch]
    outcome: asyncio.Future[None] | None

    @property
    def failure(self) -> BaseException | None:
        """Why the append failed; None when it did not, or is still on its way."""
        return self.outcome.exception() if self.outcome is not None and self.outcome.done() else None


class AppendingWriter(ABC):
    """Collects batches, appends them together, and confirms, in order, what the log has acknowledged.

    An append costs milliseconds however few its rows are, and the log takes one batch a partition at a
    time: what comes meanwhile waits and goes as one. After a failed append nothing behind it is
    confirmed; all of that is held again, in order, and the next call appends it. *confirmed_point* is
    the crash point behind a confirmation.
    """

    def __init__(
        self, log: Log, topic: str, crash_point: Callable[[str], None], confirmed_point: str
    ) -> None:
        self._log, self._topic = log, topic
        self._crash_point, self._confirmed_point = crash_point, confirmed_point
        self._held: list[Batch] = []
        self._held_rows = 0
        self._sent: deque[_Sent] = deque()
        self._confirmed: dict[PartitionId, int] = {}

    @abstractmethod
    def _records(self, batches: Sequence[Batch]) -> Records | None:
        """What *batches* become; None when that is nothing."""

    async def write(self, batch: Batch) -> None:
        """Hold the rows; with many of them append what is held."""
        self._collect()  # before the append: nothing may overtake what failed
        if self._held_rows + len(batch) >= APPEND_ROWS:
            await self._append([*self._held, batch])  # not held yet: after an error it is written again
        else:
            self._held.append(batch)
            self._held_rows += len(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """Append what is held; with END, REVOKE and PRESSURE also wait for everything."""
        self._collect()
        if self._held:
            await self._append(self._held)
        if reason in _LASTING:
            outcomes = [sent.outcome for sent in self._sent if sent.outcome is not None]
            if outcomes:
                await asyncio.wait(outcomes)  # unlike gather it cancels none of them when it is cancelled
        self._collect()
        return dict(self._confirmed)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions*, with what is held of them; what is on its way is not taken back."""
        gone = set(partitions)
        self._hold([b for b in self._held if b.source not in gone])
        left = [([b for b in sent.batches if b.source not in gone], sent.outcome) for sent in self._sent]
        self._sent = deque(_Sent(batches, outcome) for batches, outcome in left if batches)
        for source in gone:
            self._confirmed.pop(source, None)

    async def close(self) -> None:
        """Nothing is held open; the log belongs to the worker."""
        self._hold([])
        self._sent.clear()

    def _hold(self, batches: list[Batch]) -> None:
        self._held, self._held_rows = batches, sum(map(len, batches))

    def _collect(self) -> None:
        """Confirm what is acknowledged; raises the first failure."""
        failure = next((sent.failure for sent in self._sent if sent.failure is not None), None)
        if failure is not None:
            self._hold([*(b for sent in self._sent for b in sent.batches), *self._held])
            self._sent.clear()
            raise failure
        while self._sent and ((first := self._sent[0]).outcome is None or first.outcome.done()):
            self._sent.popleft()
            self._confirmed.update((batch.source, batch.range.end) for batch in first.batches)
            self._crash_point(self._confirmed_point)

    async def _append(self, batches: list[Batch]) -> None:
        records = self._records(batches)
        outcome = None
        if records is not None:
            outcome = _future(await self._log.append(self._topic, records))
        self._sent.append(_Sent(batches, outcome))
        self._hold([])


def _future(outcome: Awaitable[None]) -> asyncio.Future[None]:
    future = asyncio.ensure_future(outcome)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
