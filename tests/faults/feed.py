"""The producing side of a fault run: rows flow while the run wants them, each in the oracle's journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.faults.journal import Journal, Produced, read
from tests.faults.rows import PARTITIONS, Made

_BURST_SECONDS = 0.04


class RowMaker(Protocol):
    """Where the rows come from."""

    def make(self, count: int) -> list[Made]: ...


class Feed:
    """Sends rows to *topic*, *rate* a second, while it is :meth:`on`."""

    def __init__(self, bootstrap: str, topic: str, maker: RowMaker, journal: Path, rate: float) -> None:
        self._bootstrap, self._topic, self._maker, self._path = bootstrap, topic, maker, journal
        self._burst = max(1, int(rate * _BURST_SECONDS))
        self._flow = asyncio.Event()
        self._quiet = asyncio.Event()
        self.ends: dict[int, int] = {}
        """Partition -> the offset after the last acknowledged row."""
        self.places: dict[str, tuple[int, int]] = {}
        """Row id -> (partition, offset) as the broker acknowledged it."""
        self._task: asyncio.Task[None] | None = None

    def on(self) -> None:
        """Let the rows flow."""
        self._quiet.clear()
        self._flow.set()

    async def off(self) -> None:
        """Stop the flow and wait until the last burst is acknowledged, or given up."""
        self._flow.clear()
        await self._quiet.wait()

    async def last(self, made: Sequence[Made]) -> bool:
        """While it is off: a row to each partition, from 0 on; whether all of them were acknowledged."""
        with Journal(self._path) as journal:
            journal.intend(one.row for one in made)
            sent = await self._send(made, range(len(made)))
            journal.confirm([one.row.id for one in sent])
        return len(sent) == len(made)

    def produced(self) -> Produced:
        """What the journal says."""
        return read(self._path)

    async def __aenter__(self) -> Feed:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, enable_idempotence=True, acks="all", linger_ms=5
        )
        await self._producer.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(KafkaError, asyncio.TimeoutError):
            await asyncio.wait_for(self._producer.stop(), 10)

    async def _run(self) -> None:
        with Journal(self._path) as journal:
            while True:
                if not self._flow.is_set():
                    self._quiet.set()
                    await self._flow.wait()
                burst = self._maker.make(self._burst)
                journal.intend(made.row for made in burst)
                journal.confirm([made.row.id for made in await self._send(burst)])
                await asyncio.sleep(_BURST_SECONDS)

    async def _send(self, burst: Sequence[Made], partitions: Sequence[int | None] = ()) -> list[Made]:
        """The rows of *burst* that were acknowledged; without *partitions* their keys say where they go."""
        given = list(zip(burst, partitions or [None] * len(burst), strict=True))
        try:
            waits = [
                await self._producer.send(self._topic, made.value, made.row.key.encode(), number)
                for made, number in given
            ]
        except KafkaError:
            return []
        sent = []
        for made, outcome in zip(burst, await asyncio.gather(*waits, return_exceptions=True), strict=True):
            if not isinstance(outcome, BaseException):
                sent.append(made)
                self.places[made.row.id] = outcome.partition, outcome.offset
                self.ends[outcome.partition] = max(self.ends.get(outcome.partition, 0), outcome.offset + 1)
        return sent


async def make_topics(bootstrap: str, *names: str) -> None:
    """Make topics with :data:`PARTITIONS` partitions each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        while any(topic["error_code"] for topic in await admin.describe_topics(list(names))):
            await asyncio.sleep(0.02)  # it is answered before the topics can be seen
    finally:
        await admin.close()


async def delete_topics(bootstrap: str, prefix: str) -> None:
    """Delete all topics whose names begin with *prefix*."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()
