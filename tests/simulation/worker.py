"""A simulated worker: the real pipeline, fed as the transport feeds it, in a group with the real coordinator.

It does what streamcore.transport.chunks and .embedded say of a rebalance: flow stops, started work ends,
``Positions.revoked``, last commit, join; then committed offsets, ``Positions.assigned``, reading goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from faust.types import TP

from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Log
from streamcore.errors import Fenced, Transient
from streamcore.event_time import END
from streamcore.observability.metrics import Metrics
from streamcore.runtime.ends import Ends
from streamcore.runtime.idleness import Idleness
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.retry import Retries
from streamcore.runtime.state_logs import made_logs
from streamcore.transport.coordinator import Assignment, State
from streamcore.transport.embedded_broker import Broker, Group
from tests.simulation.job import GROUP, HEARTBEAT, Job, is_expected
from tests.simulation.logs import SimulatedLog
from tests.simulation.network import Network, at_once

log = logging.getLogger(__name__)


class Worker:
    """One life of one worker process. ``error`` is what ended it."""

    def __init__(
        self, name: str, job: Job, broker: Broker, network: Network, complete: asyncio.Event
    ) -> None:
        self.name, self._job, self._broker, self._network = name, job, broker, network
        self._dice = random.Random(network.dice.random())
        self._most_records = job.most_records
        if job.lives_differ:
            self._most_records = self._dice.choice([1, 100])
        self._group: Group = broker.group(GROUP)
        self._complete = complete
        """Set when the sources have all their records."""
        self._woken = asyncio.Event()
        self._generation = 0
        self._positions: dict[PartitionId, int] = {}
        self._told: set[PartitionId] = set()
        self._flow = 0
        """Counts the times that the flow was stopped: readers of an earlier one end."""
        self._readers: list[asyncio.Task[None]] = []
        self._stragglers: list[asyncio.Task[None]] = []
        self.pipeline: Pipeline | None = None
        self.leaving = False
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Work until something fails or it is told to leave."""
        loop = asyncio.get_running_loop()
        self._log = self._opened_log()
        try:
            logs = await made_logs(self._job.graph, self._log, self._job.streams, self._job.partitions)
            options = PipelineOptions(
                "dead",
                "redrive",
                memory_limit=self._job.memory_limit,
                snapshot_bytes=self._job.snapshot_bytes,
                state_dir=self._job.state_dir,
                state_memory=self._job.state_memory,
                state_logs=logs,
                retries=Retries(0.02, 0.4, 60.0),
                owner=self.name,
                clock=loop.time,
                commits=self._commits if self._job.standbys else None,
            )
            self.topics = [*self._job.streams, *logs]
            self.pipeline = Pipeline(self._job.graph, self._job.streams, self._log, Metrics(), options)
            if self._job.standbys:
                self.pipeline.resuming.wanted = lambda: self._standing_by(logs)
            await self.pipeline.start(2)
            await self._live()
        except Exception as error:
            self.error = error
            if not is_expected(error):
                log.exception("%s ended", self.name)
        finally:
            self._group.coordinator.leave(self.name)

    def _opened_log(self) -> Log:
        return SimulatedLog(self._broker, self._network)

    async def _live(self) -> None:
        assert self.pipeline is not None
        parts = [self._be_member(), self._beat(), self._commit_now_and_then(), self._look()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait([*tasks, self.pipeline.failed], return_when=asyncio.FIRST_COMPLETED)
            for done in [task for task in tasks if task.done()]:
                done.result()
            if self.pipeline.failed.done():
                await asyncio.sleep(self._dice.uniform(0, 0.1))  # the job looks now and then
                self.pipeline.failed.result()
        finally:
            tasks += [*self._readers, *self._stragglers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.pipeline.stop()

    # ------------------------------------------------------------ membership

    def wake(self) -> None:
        """The coordinator wants this member to look."""
        self._woken.set()

    def assign(self, members: Mapping[str, object]) -> Mapping[str, Assignment[object]]:
        """Any assignment will do: the worst is a random one."""
        names = sorted(members)
        shares: dict[str, set[tuple[str, int]]] = {name: set() for name in names}
        for topic in self.topics:
            for number in range(self._broker_partitions(topic)):
                shares[self._network.dice.choice(names)].add((topic, number))
        return {name: Assignment(frozenset(share), None) for name, share in shares.items()}

    def _broker_partitions(self, topic: str) -> int:
        found = self._broker.topic(topic)
        assert found is not None
        return len(found)

    async def _be_member(self) -> None:
        coordinator, taking = self._group.coordinator, None
        while not self.leaving:
            if taking is not None and not taking.done() and self._dice.random() < 0.5:
                taking.cancel()  # a rebalance breaks it off, and it may not have heard yet
            elif taking is not None:
                await asyncio.wait([taking])
            await self._give_up()
            mine = await self._joined()
            self._generation = coordinator.generation
            taking = asyncio.ensure_future(self._take_over(mine))
            taking.add_done_callback(lambda done: done.cancelled() or done.exception())
            while coordinator.is_current(self.name, self._generation) and not coordinator.in_round:
                self._woken.clear()
                await self._woken.wait()
                if self.leaving or (taking.done() and taking.exception() is not None):
                    break
            if taking.done() and not taking.cancelled() and taking.exception() is not None:
                raise taking.exception()  # type: ignore[misc]
        await self._drain()

    async def _joined(self) -> list[PartitionId]:
        coordinator = self._group.coordinator
        while True:
            self._woken.clear()
            await self._network.call(lambda: coordinator.join(self.name, self, None), fails=False)
            while coordinator.state(self.name) is State.JOINED:
                self._woken.clear()
                await self._woken.wait()
            if coordinator.state(self.name) is State.STABLE:
                parts = coordinator.assignment(self.name).partitions
                found = {topic: self._broker.topic(topic) for topic, _ in parts}
                return sorted(found[topic].source(number) for topic, number in parts)  # type: ignore[union-attr]

    async def _take_over(self, mine: list[PartitionId]) -> None:
        assert self.pipeline is not None
        committed = self._group.committed
        firsts = {source: self._broker.bounds(source).start for source in mine}
        starts = {source: max(committed.get(source, 0), firsts[source]) for source in mine}
        targets = await self.pipeline.assigned(starts)
        self._positions = dict(targets)
        self._told.clear()
        topics = sorted({source.topic for source in mine})
        self._readers = [asyncio.ensure_future(self._read(topic)) for topic in topics]
        for reader in self._readers:
            reader.add_done_callback(self._read_on)
        self._woken.set()

    async def _give_up(self) -> None:
        """Flow stops, started work ends, what was done becomes durable, and is committed."""
        pipeline, held = self.pipeline, set(self._positions)
        assert pipeline is not None
        if not held:
            return
        self._flow += 1
        if self._dice.random() < 0.8:
            await asyncio.gather(*self._readers)
        else:  # one that stands in the middle of a chunk: it goes on when its partition may have left
            await asyncio.wait(self._readers, timeout=0.02)
            self._stragglers += [reader for reader in self._readers if not reader.done()]
        self._readers = []
        await pipeline.revoked({TP(source.topic, source.partition) for source in held})
        await self._commit()
        self._positions = {}

    async def _drain(self) -> None:
        """As Job.drain, and the group is left."""
        assert self.pipeline is not None
        self.pipeline.closing = True
        self.pipeline.ledger.stir()
        if self._positions:
            finish = asyncio.ensure_future(self.pipeline.finish())
            await asyncio.wait([finish, self.pipeline.failed], return_when=asyncio.FIRST_COMPLETED)
            finish.cancel()
            await asyncio.gather(finish, return_exceptions=True)
            if not self.pipeline.failed.done():
                await self._commit()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(Transient):
                await self._network.call(lambda: self._group.coordinator.heartbeat(self.name))
            if not self._group.coordinator.is_current(self.name, self._generation):
                self._woken.set()

    # ------------------------------------------------------------ reading

    async def _read(self, topic: str) -> None:
        """What the agent of *topic* does: one chunk after the other."""
        assert self.pipeline is not None
        dice, mine, flow = self._dice, sorted(s for s in self._positions if s.topic == topic), self._flow
        while flow == self._flow:
            source = dice.choice(mine)
            chunk = await self._fetched(source)
            if flow != self._flow or self.pipeline.failed.done():
                return
            if chunk is None:
                self._maybe_end(source)
                await asyncio.sleep(dice.uniform(0.01, 0.06))
                continue
            self._positions[source] = chunk.end
            await self.pipeline.process(chunk)
            if dice.random() < 0.5:
                await asyncio.sleep(dice.uniform(0, self._job.pace))

    def _read_on(self, reader: asyncio.Task[None]) -> None:
        assert self.pipeline is not None
        if not reader.cancelled() and (error := reader.exception()) is not None:
            self.pipeline.fail(error)

    async def _fetched(self, source: PartitionId) -> Chunk | None:
        """The next chunk of *source*, of any size."""
        start = self._positions[source]
        end = start + self._dice.randint(1, self._most_records)
        try:
            chunk = await self._chunk(source, start, end)
        except Transient:
            return None
        markers = self._job.markers.get((source.topic, source.partition), frozenset())
        return chunk if chunk is None or not markers else _without(chunk, markers)

    async def _chunk(self, source: PartitionId, start: int, end: int) -> Chunk | None:
        assert isinstance(self._log, SimulatedLog)
        return await self._log.read(source.topic, source.partition, start, end)

    def _maybe_end(self, source: PartitionId) -> None:
        if not self._job.bounded or not self._complete.is_set() or source in self._told:
            return
        assert self.pipeline is not None
        end = self._broker.bounds(source).end
        if source.topic in self._job.streams and self.pipeline.processed.get(source) == end:
            self._told.add(source)
            self.pipeline.tell_watermark(source, END)

    async def _look(self) -> None:
        """What the worker's watch does: partitions that are idle are told."""
        assert self.pipeline is not None
        ends = Ends(self._log, self._job.streams, 1.0)
        asking = asyncio.ensure_future(ends.keep_asking())
        clock = asyncio.get_running_loop().time
        idleness = Idleness(self._job.graph, self.pipeline, self._job.streams, ends.of, clock)
        try:
            while True:
                if not self._job.bounded:
                    idleness.look()
                await asyncio.sleep(0.4)
        finally:
            asking.cancel()

    # ------------------------------------------------------------ standing by

    def _standing_by(self, topics: Iterable[str]) -> list[TP]:
        """Most partitions of logs that others have: any assignment of standbys will do too."""
        mine = {(source.topic, source.partition) for source in self._positions}
        parts = [(topic, number) for topic in topics for number in range(self._broker_partitions(topic))]
        return [TP(*part) for part in parts if part not in mine and self._dice.random() < 0.8]

    async def _commits(self) -> Mapping[tuple[str, int], int]:
        def committed() -> Mapping[tuple[str, int], int]:
            return {(source.topic, source.partition): at for source, at in self._group.committed.items()}

        return await self._network.call(committed)

    # ------------------------------------------------------------ committing

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._job.commit_every)
            await self._commit()

    async def _commit(self) -> None:
        assert self.pipeline is not None
        wanted = {
            source: at
            for source in self._positions
            if (at := self.pipeline.commit_position(TP(source.topic, source.partition))) is not None
        }
        if wanted:
            with contextlib.suppress(Fenced, Transient):
                await self._store(wanted)

    async def _store(self, wanted: Mapping[PartitionId, int]) -> None:
        commit = lambda: at_once(self._group.commit(self.name, self._generation, wanted))  # noqa: E731
        await self._network.call(commit, channel=(self.name, "commit"))


def _without(chunk: Chunk, markers: frozenset[int]) -> RecordChunk:
    """*chunk* with holes where *markers* are."""

    def kept() -> Iterator[int]:
        return (place for place, offset in enumerate(chunk.offsets().tolist()) if offset not in markers)

    places, stamps = list(kept()), chunk.timestamps()
    values, keys = chunk.values(), chunk.keys()
    return RecordChunk(
        chunk.source,
        np.array([chunk.offsets()[p] for p in places], np.int64),
        [values[p] for p in places],
        first=chunk.first,
        end=chunk.end,
        keys=[keys[p] for p in places],
        timestamps=None if stamps is None else stamps[places],
    )
