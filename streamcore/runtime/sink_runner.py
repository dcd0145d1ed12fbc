"""The sink agent: it owns one sink's writer, feeds it in order, retries, and reports what is durable.

It is a task of its own, not a Faust agent on a channel: Faust stops its channels during a rebalance,
which is exactly when a sink has to drain.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from streamcore.batch import Batch, PartitionId, TimedBatch
from streamcore.contracts import FlushReason, SinkAbilities, SinkWriter
from streamcore.errors import Transient
from streamcore.observability.metrics import Metrics
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.retry import Retries

T = TypeVar("T")
log = logging.getLogger(__name__)

FLUSH_BYTES = 8 << 20
"""A writer is asked to confirm at the latest when it took this many bytes since the last time."""
BACKLOG = 8
"""Batches that wait for the writer before the source waits too; chunks grow meanwhile, and get cheaper."""
TURNS = 3
"""Turns of the event loop that the agent gets to bring the next chunk before what is written is flushed."""


def when_all_idle(runners: Iterable[SinkRunner], call: Callable[[], None]) -> None:
    """*call* once, as soon as each of *runners* has been idle; see :meth:`SinkRunner.when_idle`."""
    busy = list(runners)

    def next_one() -> None:
        if busy:
            busy.pop().when_idle(next_one)
        else:
            call()

    next_one()


class SinkRunner:
    """Feeds one writer from one queue; everything that touches the writer holds one lock."""

    def __init__(
        self,
        sink: str,
        writer: SinkWriter,
        ledger: Ledger,
        retries: Retries,
        metrics: Metrics,
        topology: str,
        abilities: SinkAbilities,
    ) -> None:
        self.sink, self.stores_positions = sink, abilities.stores_positions
        self.server_refuses = abilities.server_refuses
        self._tick = abilities.timer_seconds
        self._writer, self._ledger, self._retries = writer, ledger, retries
        self._metrics, self._topology = metrics, topology
        self._queue: deque[Batch] = deque()
        self._sleeping: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._when_idle: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._pressed = False
        self._unflushed = 0
        self._due: float | None = None
        """When what was written since the last flush must be asked for; None: nothing was."""
        self._written: deque[tuple[PartitionId, int, int]] = deque()
        self.rows_out = 0
        self.last_error: str | None = None
        self.busy_since: float | None = None
        """Monotonic time at which the call that is under way began."""
        self._open: set[PartitionId] = set()

    # ------------------------------------------------------------ called by the pipeline

    async def start(self) -> None:
        """Connect the writer."""
        await self._try("start", self._writer.start)

    async def open(self, starts: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Take partitions over; returns where the sink stands in each of them."""
        async with self._lock:
            positions = await self._try("open", lambda: self._writer.open(starts))
            self._open |= set(starts)
            return positions

    def put(self, batch: Batch) -> None:
        """Queue what the sink does not have yet of *batch*.

        Of a log of state that may be the watermark alone. Where a log is read again its records are cut
        otherwise, and a batch of rows that are there may bring one that was told by a batch without rows, and
        was lost.
        """
        position = self._ledger.sink_position(self.sink, batch.source)
        start, end = batch.range
        tells = isinstance(batch, TimedBatch) and end in (start, position)
        if tells or batch.range.end > position:
            self._queue.append(batch.cut(position, batch.range.end))
            self._idle.clear()
            self._rouse()

    def when_idle(self, call: Callable[[], None]) -> None:
        """*call* as soon as nothing is queued and what was written has been flushed; now, if that is so."""
        if self._idle.is_set():
            call()
        else:
            self._when_idle.append(call)

    def refused(self, batch: Batch, rows: int) -> None:
        """*rows* rows of *batch* became dead letters: its confirmation does not count them."""
        self._written.append((batch.source, batch.range.end, -rows))

    @property
    def backlogged(self) -> bool:
        """Whether as much waits in the queue as helps: more would only keep the chunks small."""
        return len(self._queue) >= BACKLOG

    def press(self) -> None:
        """Too much is unconfirmed: confirm as soon as the queue is empty."""
        self._pressed = True
        self._rouse()

    async def drain(self, reason: FlushReason) -> None:
        """Write what is queued and make all of it durable."""
        await self._idle.wait()
        async with self._lock:
            await self._flush(reason)

    async def release(self, sources: Sequence[PartitionId]) -> None:
        """Forget *sources*, with whatever of them is still queued."""
        gone = set(sources)
        self._queue = deque(b for b in self._queue if b.source not in gone)
        async with self._lock:
            self._open -= gone
            self._written = deque(w for w in self._written if w[0] not in gone)
            await self._writer.release(sources)

    async def close(self) -> None:
        await self._writer.close()

    # ------------------------------------------------------------ the task

    async def run(self) -> None:
        """Feed the writer until cancelled; raises what the writer can't recover from."""
        while True:
            if not self._queue:
                await self._wait()
            async with self._lock:
                await self._turn()

    async def _wait(self) -> None:
        if not self._pressed:
            self._idle.set()
            waiting, self._when_idle = self._when_idle, []
            for call in waiting:
                call()
            await self._sleep()

    async def _sleep(self) -> None:
        """Until something is to be done, or a tick is over."""
        # A future and a timer: wait_for makes a task, which is felt where rows are few.
        loop = asyncio.get_running_loop()
        self._sleeping = loop.create_future()
        timer = loop.call_later(self._tick, self._rouse)
        try:
            await self._sleeping
        finally:
            timer.cancel()
            self._sleeping = None

    def _rouse(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    async def _turn(self) -> None:
        if not self._queue:
            pressed, self._pressed = self._pressed, False
            await self._flush(FlushReason.PRESSURE if pressed else FlushReason.TIMER)
            return
        batch, clock = self._queue.popleft(), asyncio.get_running_loop().time
        if self._due is None:
            self._due = clock() + self._tick
        self._ledger.stir()
        await self._try("write", lambda: self._writer.write(batch))
        self._written.append((batch.source, batch.range.end, len(batch)))
        self._unflushed += batch.chunk.nbytes
        if self._unflushed < FLUSH_BYTES and not self._queue and not self._when_idle:
            # The chunks of one fetch come one by one; a flush for each would cost more than their rows.
            for _ in range(TURNS):
                await asyncio.sleep(0)
        # A sink that is slower than its source never sees its queue empty.
        if not self._queue or self._unflushed >= FLUSH_BYTES or clock() >= self._due:
            await self._flush(FlushReason.IDLE)

    async def _flush(self, reason: FlushReason) -> None:
        if not self._open:
            return
        positions = await self._try("flush", lambda: self._writer.flush(reason))
        self._unflushed, self._due = 0, None
        self._count(positions)
        self._ledger.confirm(self.sink, positions)

    def _count(self, positions: Mapping[PartitionId, int]) -> None:
        """Count the rows of batches that *positions* confirm."""
        left: deque[tuple[PartitionId, int, int]] = deque()
        rows = 0
        for source, end, count in self._written:
            if source in positions and end <= positions[source]:
                rows += count
            else:
                left.append((source, end, count))
        self._written = left
        rows = max(0, rows)  # a write that is tried again may refuse a row twice
        self.rows_out += rows
        self._metrics.rows_out.labels(self._topology, self.sink).inc(rows)

    async def _try(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        seconds = self._metrics.sink_seconds.labels(self._topology, self.sink, operation)

        async def timed() -> T:
            self.busy_since = time.monotonic()
            try:
                with seconds.time():
                    return await call()
            finally:
                self.busy_since = None

        def failed(error: Transient) -> None:
            self.last_error = str(error)
            self._metrics.sink_retries.labels(self._topology, self.sink).inc()
            log.warning("sink %s: %s failed, trying again: %s", self.sink, operation, error)

        result = await self._retries.run(f"sink {self.sink!r}: {operation}", timed, failed)
        self.last_error = None
        return result
