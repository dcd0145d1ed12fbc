"""A take-over goes on from what the heir has of a state, and reads only what its log has got since."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamcore.batch import Chunk, Range
from streamcore.contracts import Records
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.resuming import Resuming
from streamcore.runtime.state_copies import Copies
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.systems.kafka_admin import KafkaAdmin
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.runtime.test_worker import until
from tests.services.kafka import KafkaServer

ROOT = Path(__file__).parents[3]
USERS, PARTITIONS = 50, 4
TOPOLOGY = """
import streamcore as sc

topology = sc.Topology("NAME")
clicks = topology.stream("clicks", {"user": "int64"}, topic="NAME-clicks")
counts = clicks.by("user").aggregate(n="count(*)", name="counts")
counts.changelog().to(sc.sinks.JsonLines("OUT", roll_seconds=0.2))
"""


class Counts:
    """Clicks counted by user: a topology in a file, whose sink is a folder, so that any process runs it."""

    def __init__(self, server: KafkaServer, folder: Path) -> None:
        self.url, self.folder, self.out = server.url, folder, folder / "out"
        self.name = f"counts-{os.urandom(4).hex()}"
        self.topic, self.log_topic = f"{self.name}-clicks", f"{self.name}.counts.log"
        text = TOPOLOGY.replace("NAME", self.name).replace("OUT", str(self.out))
        (folder / "counting.py").write_text(text)
        self.log = KafkaLog(KafkaConnection.parse(self.url))
        self.sent: Counter[int] = Counter()
        self.seen: set[Path] = set()
        self.newest: dict[int, tuple[int, int]] = {}
        self.state = {"dir": folder / "state", "memory_mb": 0, "standbys": 0}

    def topology(self) -> Topology:
        found: dict[str, Topology] = {}
        exec((self.folder / "counting.py").read_text(), found)
        return found["topology"]

    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "broker": {"url": self.url},
                "state": self.state,
                "http": {"port": 0},
                "runtime": {"commit_interval_s": 0.2},
                "kafka": {"session_timeout_s": 6.0},
                "limits": {"fetch_max_bytes": 1_024},  # a chunk a batch, a record of the log a chunk
            }
        )

    async def send(self, batches: int) -> None:
        for _ in range(batches):
            users = [int(user) for user in np.random.default_rng(self.sent.total()).integers(0, USERS, 20)]
            self.sent.update(users)
            values = pa.array([orjson.dumps({"user": user}) for user in users], pa.binary())
            stamps = np.full(len(users), int(time.time() * 1000))
            partitions = np.arange(len(users), dtype=np.int32) % PARTITIONS
            await (await self.log.append(self.topic, Records(values, stamps, partitions=partitions)))

    def counted(self) -> dict[int, int]:
        """The newest count of each user."""
        for file in set(self.out.rglob("*.jsonl")) - self.seen:  # whole once it has its name
            self.seen.add(file)
            for line in file.read_bytes().splitlines():
                row = orjson.loads(line)
                self.newest[row["user"]] = max(
                    self.newest.get(row["user"], (-1, 0)), (row["number"], row["n"])
                )
        return {user: n for user, (_, n) in self.newest.items()}

    async def all_counted(self) -> None:
        """Until the sink has all, and the group has committed all of the log."""
        await until(lambda: self.counted() == self.sent, "all are counted", 150)
        for _ in range(600):
            async with KafkaAdmin(KafkaConnection.parse(self.url)) as admin:
                committed = await admin.committed(self.name)
            bounds = await self.log.bounds(self.log_topic)
            if all(committed.get((self.log_topic, p), 0) == bounds[p].end for p in bounds):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the log is not committed")

    async def filled(self) -> Mapping[int, Range]:
        """Send until each partition of the log has some records; gives their bounds."""
        while True:
            await self.send(20)
            await self.all_counted()
            bounds = await self.log.bounds(self.log_topic)
            if min(bound.end for bound in bounds.values()) >= 60:
                return bounds

    @contextmanager
    def elsewhere(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a process of its own, until it is killed (-9)."""
        (self.folder / "settings.yaml").write_text(self.settings().model_dump_json(exclude_none=True))
        command = ["worker", "counting.py", "--config", "settings.yaml"]
        with (self.folder / "worker.log").open("ab") as errors:
            worker = subprocess.Popen(
                [sys.executable, "-m", "streamcore.cli", *command],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=errors,
            )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    @asynccontextmanager
    async def here(self) -> AsyncIterator[None]:
        """A worker in this process, which drains at the end."""
        stop = asyncio.Event()
        working = asyncio.ensure_future(work(self.topology(), self.settings(), stop))
        try:
            yield
        finally:
            stop.set()
            await working


@pytest.fixture
async def counts(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Counts]:
    scene = Counts(kafka, tmp_path)
    await scene.log.create(scene.topic, PARTITIONS, {})
    yield scene
    await scene.log.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many records owners of this process have read of each partition of the log."""
    found: Counter[int] = Counter()
    asking = KeptState.asking

    def counting(self: KeptState, chunk: Chunk):  # type: ignore[no-untyped-def]
        found[chunk.source.partition] += len(chunk)
        return asking(self, chunk)

    monkeypatch.setattr(KeptState, "asking", counting)
    return found


@pytest.fixture
def resumings(monkeypatch: pytest.MonkeyPatch) -> list[Resuming]:
    """What the workers of this process keep."""
    found: list[Resuming] = []
    init = Resuming.__init__

    def noted(self: Resuming, *given: object) -> None:
        init(self, *given)  # type: ignore[arg-type]
        found.append(self)

    monkeypatch.setattr(Resuming, "__init__", noted)
    return found


@pytest.mark.timeout(400)
async def test_the_heir_of_a_killed_worker_goes_on_from_its_standbys(
    counts: Counts, read: Counter[int], resumings: list[Resuming]
) -> None:
    counts.state["standbys"] = 1
    with counts.elsewhere() as owner:
        bounds = await counts.filled()
        async with counts.here():
            await until(
                lambda: bool(resumings) and len(resumings[0].standbys.wanted) == 2, "two are owned", 60
            )
            standbys = resumings[0].standbys
            theirs = {tp.partition for tp in standbys.wanted}
            ends = {number: bounds[number].end for number in theirs}

            def warm() -> bool:
                there = {tp.partition: standby.kept.at for tp, standby in standbys.here.items()}
                return all(there.get(number, 0) >= end for number, end in ends.items())

            await until(warm, "the others' states are here", 120)
            await counts.send(2)
            await counts.all_counted()
            read.clear()
            owner.kill()
            await counts.send(2)
            await counts.all_counted()
            assert theirs <= read.keys()
            for number in range(PARTITIONS):  # its own ones are not read again either
                assert read[number] < bounds[number].end / 2
    assert counts.counted() == counts.sent


@pytest.mark.timeout(400)
async def test_a_killed_worker_goes_on_from_its_copies(
    counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    counts.state["snapshot_mb"] = 0
    copies = Copies(counts.folder / "state" / counts.name / "snapshots")
    with counts.elsewhere():
        await counts.filled()
        while len({path.name for path in copies.folder.rglob("*[0-9]")}) < PARTITIONS:
            await counts.send(5)  # a copy is looked after when something comes
            await counts.all_counted()
    caplog.set_level(logging.INFO)
    async with counts.here():
        await counts.send(2)
        await counts.all_counted()
    assert caplog.text.count("goes on from its copy") == PARTITIONS
    assert counts.counted() == counts.sent
