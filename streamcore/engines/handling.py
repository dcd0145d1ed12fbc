"""Messages to the functions that handle them, as a sink: confirmed when they are handled, one by one.

A message is a record of a topic whose value is JSON. What its handler raises makes it a dead letter, and the
next one goes on. At least once: after a crash the messages behind the last commit come again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import orjson
import polars as pl
from pydantic import JsonValue

from streamcore.batch import OFFSET, Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext
from streamcore.declaring import raised_at

log = logging.getLogger(__name__)

COLUMNS = {"value": "binary", "key": "binary"}
"""Of the stream whose messages are handled; its format is raw."""
_LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)
_CONFIRM_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``payload`` is its JSON value; ``timestamp`` is in UTC, when it was sent."""

    topic: str
    payload: JsonValue
    key: str | None
    partition: int
    offset: int
    timestamp: dt.datetime | None
    headers: Mapping[str, bytes]

    @property
    def message_id(self) -> str:
        """The same whenever the message comes again."""
        return f"{self.topic}/{self.partition}/{self.offset}"


Handler: TypeAlias = Callable[[Message], object] | Callable[[Message], Awaitable[object]]
"""What it returns is not kept. An ordinary function runs in a thread, an async one in the engine's loop."""


@dataclass
class Counts:
    """Messages handled, those that became dead letters, and those that were read and wait for their turn."""

    handled: int = 0
    failed: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Handling:
    """Hands messages of the topic *messages_of* to *handler*, *workers* side by side.

    Those of one key stay in their order. When *buffer* messages wait, reading waits. ``ready`` is set when
    the broker can be read.
    """

    messages_of: str
    handler: Handler
    workers: int
    buffer: int
    counts: Counts = field(default_factory=Counts, compare=False)
    ready: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    @property
    def name(self) -> str:
        return f"handler:{self.messages_of}"

    @property
    def target(self) -> str:
        """Who gets the messages, for people."""
        return getattr(self.handler, "__qualname__", type(self.handler).__name__)

    @property
    def abilities(self) -> SinkAbilities:
        return SinkAbilities(timer_seconds=_CONFIRM_SECONDS)

    def check(self, columns: pl.Schema) -> None:
        """Messages have always the same columns."""

    def writer(self, context: SinkContext) -> HandlingWriter:
        return HandlingWriter(self, context)


@dataclass(slots=True)
class _Waiting:
    """A message on its way, with the batch that it is of."""

    batch: Batch
    offset: int
    value: bytes | None
    key: bytes | None
    done: bool = False


class HandlingWriter:
    """The live part of a :class:`Handling`: a lane for each worker, and what waits of each partition."""

    def __init__(self, sink: Handling, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._lanes: list[deque[_Waiting]] = [deque() for _ in range(sink.workers)]
        self._wakes = [asyncio.Event() for _ in range(sink.workers)]
        self._open: dict[PartitionId, deque[_Waiting]] = {}
        self._ends: dict[PartitionId, int] = {}
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(sink.workers, f"handler-{sink.messages_of}")
        self._turn = 0

    async def start(self) -> None:
        self._sink.counts.waiting = 0
        self._tasks = [asyncio.create_task(self._work(lane)) for lane in range(self._sink.workers)]
        self._sink.ready.set()

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self._ends.update(partitions)
        self._open.update({source: deque() for source in partitions})
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        """Take the messages over, once there is room."""
        await self._until(lambda: self._sink.counts.waiting < self._sink.buffer)
        rows = zip(*(batch.frame[name].to_list() for name in (OFFSET, "value", "key")), strict=True)
        for offset, value, key in rows:
            waiting = _Waiting(batch, offset, value, key)
            self._open[batch.source].append(waiting)
            lane = self._lane(key)
            self._lanes[lane].append(waiting)
            self._wakes[lane].set()
            self._sink.counts.waiting += 1
        self._ends[batch.source] = batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        if reason in _LASTING:
            await self._until(lambda: not any(map(self._left, self._open)))
        self._check()
        return {source: self._position(source) for source in self._open}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for source in partitions:
            self._open.pop(source, None)
            self._ends.pop(source, None)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lane(self, key: bytes | None) -> int:
        """Those of one key go to one worker; those without a key to one after the other."""
        if key is None:
            self._turn += 1
        return (self._turn if key is None else zlib.crc32(key)) % self._sink.workers

    def _left(self, source: PartitionId) -> int:
        """How many messages of *source* wait; those that are done before them are forgotten."""
        waiting = self._open[source]
        while waiting and waiting[0].done:
            waiting.popleft()
        return len(waiting)

    def _position(self, source: PartitionId) -> int:
        """All before it is handled."""
        return self._open[source][0].offset if self._left(source) else self._ends[source]

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._check()
            self._moved.clear()
            await self._moved.wait()

    def _check(self) -> None:
        """Raise what ended a worker."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    # ------------------------------------------------------------ the workers

    async def _work(self, lane: int) -> None:
        messages, wake = self._lanes[lane], self._wakes[lane]
        try:
            while True:
                while not messages:
                    wake.clear()
                    await wake.wait()
                waiting = messages[0]
                if waiting.batch.source in self._open:
                    await self._handle(waiting)
                waiting.done = True
                messages.popleft()
                self._sink.counts.waiting -= 1
                self._moved.set()
        finally:
            self._moved.set()

    async def _handle(self, waiting: _Waiting) -> None:
        """Call the handler; a message that it can't handle is a dead letter before it counts as done."""
        try:
            message = self._message(waiting)
        except orjson.JSONDecodeError:
            await self._refuse(waiting, "json", "the message is no JSON")
            return
        try:
            handler = self._sink.handler
            if inspect.iscoroutinefunction(handler):
                result: object = handler(message)
            else:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self._threads, handler, message)
            if inspect.isawaitable(result):  # also of an object or a lambda, which don't look like async ones
                await result
        except Exception as error:  # noqa: BLE001 - it is this message's
            await self._refuse(waiting, "handler", f"{type(error).__name__} at {raised_at(error)}")
        else:
            self._sink.counts.handled += 1

    def _message(self, waiting: _Waiting) -> Message:
        batch, source = waiting.batch, waiting.batch.source
        payload = orjson.loads(waiting.value) if waiting.value is not None else None
        stamps = batch.chunk.timestamps()
        stamp = None if stamps is None else int(stamps[batch.chunk.index(np.array([waiting.offset]))[0]])
        return Message(
            topic=self._sink.messages_of,
            payload=payload,
            key=None if waiting.key is None else waiting.key.decode(errors="replace"),
            partition=source.partition,
            offset=waiting.offset,
            timestamp=None if stamp is None else dt.datetime.fromtimestamp(stamp / 1000, dt.timezone.utc),
            headers=dict(batch.chunk.headers(waiting.offset)),
        )

    async def _refuse(self, waiting: _Waiting, code: str, why: str) -> None:
        row = waiting.batch.frame.filter(pl.col(OFFSET) == waiting.offset)
        await self._context.refuse(waiting.batch, Rejects.of(row, self._context.sink, code, why))
        self._sink.counts.failed += 1
        if self._sink.counts.failed == 1:
            log.warning("%s: %s; the message is a dead letter, as later ones will be", self._sink.name, why)
