"""A simulated world: what all kinds have, topology, rows, sinks, and what streamcore asks of the outside."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol
from unittest import mock

import streamcore as sc
from streamcore.contracts import Sink
from streamcore.runtime import sink_writers, snapshots, state_logs
from streamcore.runtime.pipeline import Pipeline
from streamcore.sinks import postgres
from streamcore.transport.embedded_broker import RETENTION, Broker
from tests.simulation import shapes
from tests.simulation.branch import Branch
from tests.simulation.database import Database, SimulatedTable
from tests.simulation.feed import Feed, feed_of
from tests.simulation.job import GROUP, Job, is_expected
from tests.simulation.loop import PROCESS, Killed, Process, VirtualLoop
from tests.simulation.network import Network

KEEP: Mapping[str, str] = {RETENTION: "all"}
FIRST_WITH_MORE = 200
"""From this seed on topologies have branches of all kinds, and state may have to lie on disk."""
IDLE = 2
"""Seconds after which windows do not wait for a partition without rows, in a world that has one."""
_LONGEST = 120.0
"""Virtual seconds after the last fault, by which everything must have come to rest."""


class Life(Protocol):
    """One life of a worker: ``error`` is what ended it."""

    name: str
    pipeline: Pipeline | None
    error: BaseException | None


class World(ABC):
    """Everything of one seed. :meth:`run` lets it happen; then look at what is there."""

    sink_kinds: ClassVar[Sequence[str]] = ("pg", "pg", "files", "topic")
    """As often as they are to be chosen."""
    broker: Broker
    job: Job
    complete: asyncio.Event
    """Set when the sources have all their records."""

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        self.seed, self.faults = seed, faults
        self.sharp = self.is_sharp(seed)
        self.dice = dice = random.Random(seed)
        self.loop = VirtualLoop(lambda: self.network.latency())
        self.network = Network(self.loop, dice)
        self.database = Database(self.network)
        self.folder = Path(tempfile.mkdtemp(prefix=f"sim-{seed}-", dir=_fast_folder()))
        self.state_dir = Path(f"{self.folder}-state")
        self.state_dir.mkdir()
        self.errors: list[str] = []
        """Ends of workers that no fault explains."""
        self.events: list[str] = []
        self.branches = shapes.chosen(dice, whole=self.sharp, more=seed >= FIRST_WITH_MORE)
        self.quiet = dice.random() < 0.15
        bounded = dice.random() < 0.4
        streams = ["rows", "others"] if any(b.joins for b in self.branches) else ["rows"]
        self.feed: Feed = feed_of(dice, streams, bounded=bounded, quiet=self.quiet)
        self._alive: dict[str, tuple[Process, Life]] = {}
        self._lives = 0
        self.database.idle_timeout = dice.choice([0.5, 10.0, 10.0])
        self._wanted = dice.choice([2, 2, 3, 4])

    # ------------------------------------------------------------ the topology

    def _sinks(self, branch: Branch, number: int) -> Sequence[Sink]:
        dice, keyed = self.dice, branch.key or None
        kinds = self.sink_kinds
        if keyed is not None:  # files can't be updated
            kinds = [kind for kind in dict.fromkeys(kinds) if kind != "files"]
        chosen = {dice.choice(kinds) for _ in range(dice.choice([1, 1, 2]))}
        made: list[Sink] = []
        if self.sharp:  # a writer to the database that may refuse rows, and a topic in transactions
            chosen = {"exact" if kind == "topic" else kind for kind in chosen}
            chosen = {"pg"} if branch.name == "whole" else chosen
        for kind in sorted(chosen):
            name = f"{kind}-{branch.name}-{number}"
            branch.sinks.append(name)
            if kind == "pg":
                made.append(
                    sc.sinks.Postgres(name, "postgresql://sim/db?sslmode=disable", key=keyed, name=name)
                )
            elif kind in ("topic", "exact"):
                made.append(
                    sc.sinks.Topic(
                        name,
                        name=name,
                        create=True,
                        partitions=2,
                        config=KEEP,
                        guarantee="exactly-once" if kind == "exact" else "at-least-once",
                    )
                )
            else:
                roll = dice.choice([1, 5, 50])
                seconds = dice.choice([0.05, 0.5, 5.0])
                made.append(
                    sc.sinks.JsonLines(
                        str(self.folder / name), roll_rows=roll, roll_seconds=seconds, name=name
                    )
                )
        return made

    def _job(self) -> Job:
        dice = self.dice
        topology = shapes.built(self.branches, self._sinks, idle_after=f"{IDLE}s" if self.quiet else "1h")
        partitions = {stream: len(parts) for stream, parts in self.feed.partitions.items()}
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
            lives_differ=self.sharp,
            state_dir=self.state_dir,
            state_memory=dice.choice([1, 512 << 20]) if self.seed >= FIRST_WITH_MORE else 512 << 20,
            pace=dice.choice([0.02, 0.2, 0.6]),
            standbys=self.seed >= FIRST_WITH_MORE and dice.random() < 0.5,
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
        shutil.rmtree(self.state_dir, ignore_errors=True)
        self.loop.over = True
        self._alive.clear()
        self.loop.processes.clear()
        self.loop.tasks.clear()
        self.loop.close()
        gc.collect()
        gc.freeze()  # what is left is there for good, and need not be looked through each time

    @staticmethod
    def is_sharp(seed: int) -> bool:
        """Whether faults of a seed's world are aimed at moments that rarely come by themselves."""
        return False

    @abstractmethod
    async def _happen(self) -> None:
        """Workers run, faults come, :meth:`_rest`. Sets ``broker``, ``job`` and ``complete``."""

    def _make_topics(self, broker: Broker) -> None:
        for stream, parts in self.feed.partitions.items():
            broker.create(stream, len(parts), KEEP)
        broker.create("redrive", 1, KEEP)

    def _explain(self, worker: Life) -> None:
        """Note the end of *worker* if no fault explains it."""
        if worker.error is not None and not is_expected(worker.error):
            self.errors.append(f"{worker.name} ended with {type(worker.error).__name__}: {worker.error}")

    # ------------------------------------------------------------ the end

    async def _rest(self) -> None:
        """Wait until nothing is left to do: everything is read, confirmed and committed."""
        deadline, since, before = self.loop.now + _LONGEST, self.loop.now, None
        while self.loop.now < deadline and not self.errors:
            await asyncio.sleep(0.5)
            now = self._standing()
            if now != before or not self._is_done():
                before, since = now, self.loop.now
            elif self.loop.now - since > (IDLE + 3 if self.quiet else 2.5):  # idle partitions are told
                return
        if not self.errors:
            raise TimeoutError(f"not at rest after {_LONGEST:g} s: {self._left()}")

    def _standing(self) -> object:
        ends = {t: [log.end for log in topic.logs] for t, topic in self.broker._topics.items()}
        return ends, dict(self.broker.group(GROUP).committed), len(self.database.commits)

    def _left(self) -> dict[str, tuple[int, int]]:
        """Partitions whose end is not committed: (committed, end)."""
        committed, found = self.broker.group(GROUP).committed, {}
        for topic in [*self.feed.partitions, *(t for t in self.broker.topics if t.endswith(".log"))]:
            there = self.broker.topic(topic)
            for number in range(len(there or ())):
                source = there.source(number)  # type: ignore[union-attr]
                done, end = committed.get(source, 0), self.broker.bounds(source).end
                if done < end:
                    found[f"{topic}/{number}"] = done, end
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
            mock.patch.object(uuid, "uuid4", names),
            mock.patch.object(snapshots, "uuid4", names),
            mock.patch("streamcore.runtime.retry.random.uniform", dice.uniform),
            mock.patch("streamcore.runtime.retry.time.monotonic", self.loop.time),
            mock.patch("streamcore.runtime.standbys.time.monotonic", self.loop.time),
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


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
