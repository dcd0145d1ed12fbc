"""Worlds of one process with its log on disk, which is killed, or loses its power, at any call on a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Log, Records
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.simulation.feed import Record
from tests.simulation.files import Files
from tests.simulation.job import GROUP, REBALANCE, SESSION
from tests.simulation.loop import Process
from tests.simulation.network import Trouble
from tests.simulation.worker import Worker
from tests.simulation.world import World

_LOOK = 0.05


class PowerWorld(World):
    """Embedded: broker, workers and who appends the rows are one process. Laws of its own:

    - whatever a power loss leaves, the process starts again;
    - what was said to be durable, rows and commits, is there.
    """

    sink_kinds = ("files", "files", "topic", "exact", "exact", "pg")
    fault_kinds: ClassVar[Sequence[str]] = ("call", "call", "call", "step", "kill")

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        super().__init__(seed, faults=faults)
        self.files = Files(self.folder, self.dice, self.network.note)
        self.deaths = self.losses = 0
        self.from_feeds = self.feed.ended and self.dice.random() < 0.5
        self._segment_bytes = self.dice.choice([300, 2_000, 1 << 20])
        self._wanted = self.dice.choice([1, 1, 2])
        self.network.trouble = Trouble(slow=self.dice.choice([0.05, 0.5, 0.9]))  # of the disk, here
        self._struck = faults
        """Whether faults still come."""
        self._appended: dict[PartitionId, int] = {}
        """Rows that were said to be durable."""
        self.committed: dict[PartitionId, int] = {}
        """Positions that were said to be committed."""

    def run(self) -> None:
        with self.files.played():
            super().run()

    def close(self) -> None:
        self.files.restart(power=False)
        super().close()

    async def _happen(self) -> None:
        self.complete = asyncio.Event()
        self.job = self._job()
        self._start()
        ticking = asyncio.ensure_future(self._tick())
        if self.faults:
            await self._strike()
        self._struck = False
        self.network.trouble = Trouble()
        self.files.dies_in = None
        self.database.strict = True
        while not self.complete.is_set() and not self.errors:
            await asyncio.sleep(_LOOK)
        await self._rest()
        ticking.cancel()

    # ------------------------------------------------------------ the process

    def _start(self) -> None:
        self._lives += 1
        self.process = process = Process(self.loop, f"p{self._lives}")
        self._alive.clear()
        if self._struck and self.dice.random() < 0.4:
            self.files.dies_in = self.dice.randrange(1, 80)
        self._life = process.start(self._live(process))

    async def _live(self, process: Process) -> None:
        url = f"embedded://sim-{self.seed}{self.folder}/log"
        self.broker = broker = Broker(url, segment_bytes=self._segment_bytes, clock=self.loop.time)
        self._make_topics(broker)
        self._compare(broker)
        coordinator = broker.group(GROUP).coordinator
        coordinator.session_timeout, coordinator.rebalance_timeout = SESSION, REBALANCE
        workers = [EmbeddedWorker(f"{process.name}.{n}", self, broker) for n in range(self._wanted)]
        self._alive.update({worker.name: (process, worker) for worker in workers})
        await asyncio.gather(self._append_rows(broker), *(self._worked(worker) for worker in workers))

    async def _worked(self, worker: Worker) -> None:
        """A worker that ends takes its process with it."""
        await worker.run()
        self._explain(worker)
        worker_process, _ = self._alive[worker.name]
        worker_process.kill()

    def _make_topics(self, broker: Broker) -> None:
        if self.from_feeds:
            for stream, parts in self.feed.partitions.items():
                ids = [PartitionId(stream, number, f"feed/{stream}") for number in range(len(parts))]
                broker.attach(stream, [Rows(*one) for one in zip(ids, parts, strict=True)])
        super()._make_topics(broker)

    def _compare(self, broker: Broker) -> None:
        """Whether what was said to be durable is there."""
        committed = broker.group(GROUP).committed
        for source, at in self.committed.items():
            if committed.get(source, 0) < at:
                self.errors.append(f"{source}: {at} was committed, {committed.get(source)} is")
        for source, at in self._appended.items():
            if broker.bounds(source).end < at:
                self.errors.append(f"{source}: {at} rows were durable, {broker.bounds(source).end} are there")

    async def _append_rows(self, broker: Broker) -> None:
        """Each partition from where its log ends."""
        parts = (
            []
            if self.from_feeds
            else [
                self._append_part(broker, broker.topic(stream).source(number), records)  # type: ignore[union-attr]
                for stream, partitions in self.feed.partitions.items()
                for number, records in enumerate(partitions)
            ]
        )
        await asyncio.gather(*parts)
        self.complete.set()

    async def _append_part(self, broker: Broker, source: PartitionId, records: list[Record]) -> None:
        there = broker.bounds(source).end
        if self.losses and self.dice.random() < 0.7:  # whoever sends them keeps no order
            rest = records[there:-1]
            times = [record.at for record in rest]
            self.dice.shuffle(rest)
            # In the same rhythm: who pauses for long is idle, and what comes then may be late.
            records[there:-1] = [record._replace(at=at) for record, at in zip(rest, times, strict=True)]
        for number, record in enumerate(records[there:], start=there + 1):
            if record.at > self.loop.now:
                await asyncio.sleep(record.at - self.loop.now)
            one = Records(pa.array([record.value], pa.binary()), np.array([record.stamp], np.int64))
            broker.append(source.topic, source.partition, to_batch(one))
            if number == len(records) or self.dice.random() < 0.5:
                await broker.synced()
                self._appended[source] = max(number, self._appended.get(source, 0))

    # ------------------------------------------------------------ faults

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self._life.done() and not self.process.dead:
                self.errors.append(f"{self.process.name} did not live: {self._life.exception()!r}")
            if self.process.dead or self._life.done():
                self.process.kill()
                self._again()
            else:
                self.broker.group(GROUP).coordinator.tick()

    def _again(self) -> None:
        power = self.dice.random() < 0.7
        self.deaths, self.losses = self.deaths + 1, self.losses + power
        self.events.append(f"{self.loop.now:.3f} {'power lost' if power else 'killed'} {self.process.name}")
        self.files.restart(power=power)
        self._start()

    async def _strike(self) -> None:
        dice = self.dice
        count, span = dice.choice([1, 2, 4, 6]), dice.choice([0.5, 1.0, 3.0])
        for _ in range(count):
            await asyncio.sleep(dice.uniform(0.0, 2 * span / count))
            self.database.strict = dice.random() < 0.7
            self._fault(dice.choice(self.fault_kinds))

    def _fault(self, kind: str) -> None:
        if kind == "call":
            self.files.dies_in = self.dice.randrange(1, 60)
        elif kind == "step":
            self.process.dies_at = self.process.steps + self.dice.randrange(400)
        else:
            self.process.kill()


class Rows:
    """streamcore.transport.embedded_feed.Feed of rows that lie outside."""

    def __init__(self, source: PartitionId, records: list[Record]) -> None:
        self.source, self._records = source, records

    def read(self, position: int, count: int) -> Chunk | None:
        """*count* rows instead of bytes."""
        found = self._records[position : position + count]
        return (
            RecordChunk(
                self.source,
                np.arange(position, position + len(found)),
                [record.value for record in found],
                first=position,
                end=position + len(found),
                keys=[None] * len(found),
                timestamps=np.array([record.stamp for record in found], np.int64),
            )
            if found
            else None
        )

    def end(self) -> int:
        return len(self._records)

    def close(self) -> None:
        pass


class EmbeddedWorker(Worker):
    """A worker in one process with its broker."""

    def __init__(self, name: str, world: PowerWorld, broker: Broker) -> None:
        super().__init__(name, world.job, broker, world.network, world.complete)
        self._world = world

    def _opened_log(self) -> Log:
        return EmbeddedLog(self._broker)

    async def _chunk(self, source: PartitionId, start: int, end: int) -> Chunk | None:
        found = self._broker.topic(source.topic)
        assert found is not None
        if found.feeds:
            return found.feeds[source.partition].read(start, end - start)
        log = found.logs[source.partition]
        return log.read(start, 1 << 20, min(end, log.durable))

    async def _store(self, wanted: Mapping[PartitionId, int]) -> None:
        await self._group.commit(self.name, self._generation, wanted)
        self._world.committed.update(wanted)
