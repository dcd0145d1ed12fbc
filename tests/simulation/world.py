"""One simulated world: broker, database, files, workers that die and come again, and the faults of a seed."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

import streamcore as sc
from streamcore.contracts import Records, Sink
from streamcore.runtime import retry, sink_writers, snapshots, state_logs
from streamcore.sinks import postgres
from streamcore.transport import embedded_broker
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import RETENTION, Broker
from tests.simulation import shapes
from tests.simulation.database import Database, SimulatedSession, SimulatedTable
from tests.simulation.feed import Feed, feed_of
from tests.simulation.loop import PROCESS, Killed, Process, VirtualLoop
from tests.simulation.network import Network, Trouble
from tests.simulation.shapes import Branch
from tests.simulation.worker import GROUP, REBALANCE, SESSION, Job, Worker, is_expected

KEEP = {RETENTION: "all"}
_FAULTS = ["kill", "step", "request", "pause", "freeze", "freeze", "freeze", "leave", "join", "everyone"]
_ZOMBIES = ["freeze", "freeze", "freeze", "pause", "kill"]
_PAUSES = [0.3, 2 * SESSION, 3 * SESSION]
"""Seconds that a process stands still: the longer ones make it a zombie."""
_IDLE = 2
"""Seconds after which windows do not wait for a partition without rows, in a world that has one."""
_LONGEST = 120.0
"""Virtual seconds after the last fault, by which everything must have come to rest."""


class World:
    """Everything of one seed. :meth:`run` lets it happen; then look at what is there."""

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        self.seed, self.faults = seed, faults
        self.dice = dice = random.Random(seed)
        self.loop = VirtualLoop(lambda: self.network.latency())
        self.network = Network(self.loop, dice)
        self.database = Database(self.network)
        self.folder = Path(tempfile.mkdtemp(prefix=f"sim-{seed}-", dir=_fast_folder()))
        self.errors: list[str] = []
        """Ends of workers that no fault explains."""
        self.events: list[str] = []
        self.branches = shapes.chosen(dice)
        self.quiet = dice.random() < 0.15
        bounded = dice.random() < 0.4
        streams = ["rows", "others"] if any(b.joins for b in self.branches) else ["rows"]
        self.feed: Feed = feed_of(dice, streams, bounded=bounded, quiet=self.quiet)
        self._alive: dict[str, tuple[Process, Worker]] = {}
        self._lives = 0
        self.database.idle_timeout = dice.choice([0.5, 10.0, 10.0])
        self._wanted = dice.choice([2, 2, 3, 4])

    # ------------------------------------------------------------ the topology

    def _sinks(self, branch: Branch, number: int) -> Sequence[Sink]:
        dice, key = self.dice, {"table": ("shop",), "top": ("shop", "rank"), "bands": ("band",)}
        keyed = {**key, "wtable": ("shop", "window_start")}.get(branch.name)
        kinds = ["pg", "topic"] if keyed else ["pg", "pg", "files", "topic"]
        chosen = {dice.choice(kinds) for _ in range(dice.choice([1, 1, 2]))}
        made: list[Sink] = []
        for kind in sorted(chosen):
            name = f"{kind}-{branch.name}-{number}"
            branch.sinks.append(name)
            if kind == "pg":
                made.append(
                    sc.sinks.Postgres(name, "postgresql://sim/db?sslmode=disable", key=keyed, name=name)
                )
            elif kind == "topic":
                made.append(sc.sinks.Topic(name, name=name, create=True, partitions=2, config=KEEP))
            else:
                roll = dice.choice([1, 5, 50])
                seconds = dice.choice([0.05, 0.5, 5.0])
                made.append(
                    sc.sinks.JsonLines(self.folder / name, roll_rows=roll, roll_seconds=seconds, name=name)
                )
        return made

    def _job(self, broker: Broker) -> Job:
        dice = self.dice
        topology = shapes.built(self.branches, self._sinks, idle_after=f"{_IDLE}s" if self.quiet else "1h")
        partitions = {stream: len(parts) for stream, parts in self.feed.partitions.items()}
        for stream, count in partitions.items():
            broker.create(stream, count, KEEP)
        broker.create("redrive", 1, KEEP)
        return Job(
            graph=topology.freeze(),
            streams={stream: stream for stream in partitions},
            partitions=partitions,
            snapshot_bytes=dice.choice([1, 4_000, 1 << 30]),
            bounded=self.feed.ended,
            markers=self.feed.markers,
            commit_every=dice.choice([0.1, 0.5]),
            memory_limit=dice.choice([300, 1 << 20]),
            most_records=dice.choice([1, 3, 6, 12, 40]),
            pace=dice.choice([0.02, 0.2, 0.6]),
        )

    # ------------------------------------------------------------ what happens

    def run(self) -> None:
        """Let everything happen until all is quiet. Stuck or TimeoutError when it never is."""
        with self._outside():
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self._happen())
            finally:
                for process in self.loop.processes:
                    process.dead = True

    def close(self) -> None:
        """Forget everything."""
        asyncio.set_event_loop(None)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.loop.over = True
        self._alive.clear()
        self.loop.processes.clear()
        self.loop.tasks.clear()
        self.loop.close()
        gc.collect()

    async def _happen(self) -> None:
        self.broker = broker = Broker(f"embedded://sim-{self.seed}", clock=self.loop.time)
        self.job = self._job(broker)
        coordinator = broker.group(GROUP).coordinator
        coordinator.session_timeout, coordinator.rebalance_timeout = SESSION, REBALANCE
        self.complete = asyncio.Event()
        producing = asyncio.ensure_future(self._produce())
        ticking = asyncio.ensure_future(self._tick())
        for number in range(self._wanted):
            self._begin(f"w{number}")
        if self.faults:
            await self._strike()
        self.network.trouble = Trouble(0.0, 0.02)
        self.database.strict = True
        for process, _ in self._alive.values():
            process.dies_at = None
        self.network.deaths.clear()
        self.network.pauses.clear()
        await producing
        self.complete.set()
        await self._rest()
        ticking.cancel()

    async def _produce(self) -> None:
        records = [
            (record.at, stream, number, record)
            for stream, parts in self.feed.partitions.items()
            for number, part in enumerate(parts)
            for record in part
        ]
        records.sort(key=lambda one: one[0])
        for at, stream, number, record in records:
            if at > self.loop.now:
                await asyncio.sleep(at - self.loop.now)
            one = Records(pa.array([record.value], pa.binary()), np.array([record.stamp], np.int64))
            self.broker.append(stream, number, to_batch(one))

    async def _tick(self) -> None:
        """The coordinator's clock, and the supervisor's look at who has ended."""
        while True:
            await asyncio.sleep(0.1)
            self.broker.group(GROUP).coordinator.tick()
            for name, (process, worker) in list(self._alive.items()):
                if process.dead or process.task.done():  # type: ignore[attr-defined]
                    self._ended(name, process, worker)

    def _ended(self, name: str, process: Process, worker: Worker) -> None:
        error = worker.error
        if error is not None and not is_expected(error):
            self.errors.append(f"{worker.name} ended with {type(error).__name__}: {error}")
        process.kill()
        del self._alive[name]
        if len(self._alive) < self._wanted:
            self.loop.world_later(self.dice.uniform(0.01, 0.5), self._begin, name)

    def _begin(self, name: str) -> None:
        if name in self._alive:
            return
        self._lives += 1
        process = Process(self.loop, f"{name}.{self._lives}")
        worker = Worker(process.name, self.job, self.broker, self.network, self.complete)
        self._alive[name] = process, worker
        process.task = process.start(worker.run())  # type: ignore[attr-defined]

    # ------------------------------------------------------------ faults

    async def _strike(self) -> None:
        dice = self.dice
        kinds = dice.choice([_FAULTS, _FAULTS, _ZOMBIES])
        count, span = dice.choice([0, 2, 3, 4, 6]), dice.choice([1.0, 2.0, 4.0])
        for _ in range(count):
            await asyncio.sleep(dice.uniform(0.0, 2 * span / count))
            self.network.trouble = Trouble(dice.choice([0.0, 0.0, 0.05, 0.3]), dice.choice([0.0, 0.05, 0.5]))
            self.database.strict = dice.random() < 0.7
            alive = [(n, p, w) for n, (p, w) in self._alive.items() if not p.dead]
            if not alive:
                continue
            _, process, worker = dice.choice(alive)
            kind = dice.choice(kinds)
            self.events.append(f"{self.loop.now:.3f} {kind} {process.name}")
            if kind == "kill":
                process.kill()
            elif kind == "step":
                process.dies_at = process.steps + dice.randrange(400)
            elif kind == "request":
                self.network.deaths[process] = dice.randrange(1, 40)
            elif kind == "freeze":
                if kinds is _ZOMBIES:
                    for _, other, _ in alive[1:]:
                        self.network.pauses[other] = _beginning, dice.randrange(1, 4), 3 * SESSION
                what, most = dice.choice([(_any, 30), (_beginning, 3), (_beginning, 3)])
                self.network.pauses[process] = what, dice.randrange(1, most), dice.choice(_PAUSES)
            elif kind == "pause":
                process.pause()
                self.loop.world_later(dice.choice(_PAUSES), process.go_on)
            elif kind == "leave":
                worker.leaving = True
                worker.wake()
            elif kind == "join":
                self._begin(f"x{self._lives}")
            else:
                for one, _ in self._alive.values():
                    one.kill()
        await asyncio.sleep(dice.choice([0.0, 0.5, 1.0, 2 * SESSION]))

    # ------------------------------------------------------------ the end

    async def _rest(self) -> None:
        """Wait until nothing is left to do: everything is read, confirmed and committed."""
        deadline, since, before = self.loop.now + _LONGEST, self.loop.now, None
        while self.loop.now < deadline:
            await asyncio.sleep(0.5)
            now = self._standing()
            if now != before or not self._is_done():
                before, since = now, self.loop.now
            elif self.loop.now - since > (_IDLE + 3 if self.quiet else 2.5):  # idle partitions are told
                return
        raise TimeoutError(f"not at rest after {_LONGEST:g} s: {self._left()}")

    def _standing(self) -> object:
        ends = {t: [log.end for log in topic.logs] for t, topic in self.broker._topics.items()}
        return ends, dict(self.broker.group(GROUP).committed), len(self.database.commits)

    def _left(self) -> dict[str, tuple[int, int]]:
        """Partitions whose end is not committed: (committed, end)."""
        committed, found = self.broker.group(GROUP).committed, {}
        for topic in [*self.feed.partitions, *(t for t in self.broker.topics if t.endswith(".log"))]:
            logs = self.broker.topic(topic).logs  # type: ignore[union-attr]
            for number, log in enumerate(logs):
                if committed.get(log.source, 0) < log.end:
                    found[f"{topic}/{number}"] = committed.get(log.source, 0), log.end
        return found

    def _is_done(self) -> bool:
        owned = [source for _, w in self._alive.values() if w.pipeline for source in w.pipeline.owned()]
        return not self._left() and bool(owned)

    # ------------------------------------------------------------ the outside

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """What streamcore asks of the outside comes from here: randomness, names, the database."""
        dice = random.Random(self.seed)
        names = lambda: uuid.UUID(int=dice.getrandbits(128))  # noqa: E731
        size = dice.choice([300, 512 << 10])
        with (
            mock.patch.object(embedded_broker.uuid, "uuid4", names),
            mock.patch.object(snapshots, "uuid4", names),
            mock.patch.object(retry.random, "uniform", dice.uniform),
            mock.patch.object(retry.time, "monotonic", self.loop.time),
            mock.patch.object(postgres, "connect", self.database.connect),
            mock.patch.object(postgres, "Table", SimulatedTable),
            mock.patch.object(sink_writers, "crash_point", self._crash_point),
            mock.patch.object(state_logs, "RECORD_BYTES", size),
            mock.patch.object(snapshots, "RECORD_BYTES", size),
        ):
            yield

    def _crash_point(self, name: str) -> None:
        """Between two instructions of a sink, also of what runs in a thread."""
        process = PROCESS.get()
        if process is not None and process in self.network.deaths and self.dice.random() < 0.1:
            raise Killed


def _any(channel: object) -> bool:
    return True


def _beginning(channel: object) -> bool:
    """Whether a transaction begins: who stands still here, and goes on too late, writes as a zombie."""
    return isinstance(channel, SimulatedSession) and channel.begins


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
