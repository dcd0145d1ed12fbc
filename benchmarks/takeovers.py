"""How long a partition of state is away: a worker starts again, or another one takes over, after kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.measuring import Records as Count
from benchmarks.measuring import records_of
from streamcore.contracts import Records
from streamcore.formats import Json
from streamcore.systems.kafka import KafkaConnection
from streamcore.systems.kafka_admin import KafkaAdmin
from streamcore.transport.kafka_log import KafkaLog

PROGRAM = Path(__file__).parent / "programs/streamcore_takeover.py"
WIDTH, PART, ROUNDS = 1_000, 5_000, 3
"""Bytes of a row's text; rows of an append; times that each key comes, until a snapshot is due."""
PATIENCE = 300
_RESUMED = re.compile(r"goes on from (?:its copy|what is here), as of (\d+)")
_HELD = re.compile(r"state of newest: (\d+) records of its log")
_CAUGHT_UP = re.compile(r"^streamcore_standby_records_behind\{.*\} 0\.0$", re.MULTILINE)
SESSION = 6.0


@dataclass
class Away:
    """What a take-over took: seconds from the kill to the first row out, and records of the log read."""

    way: str
    seconds: float
    records: int


@dataclass
class _Scene:
    url: str
    folder: Path
    log: KafkaLog
    count: Count
    environment: dict[str, str]
    keys: int
    port: int
    """Where the heirs' metrics are."""
    found: list[Away] = field(default_factory=list)

    @contextlib.contextmanager
    def worker(self, name: str, **state: object) -> Iterator[subprocess.Popen[bytes]]:
        """A worker with a state folder of its *name*, until it is killed."""
        settings = {f"STREAMCORE_STATE__{key.upper()}": str(value).lower() for key, value in state.items()}
        settings["STREAMCORE_STATE__DIR"] = str(self.folder / name)
        settings["STREAMCORE_BROKER__INSTANCE_ID"] = name  # one that starts again is not waited for
        settings["STREAMCORE_HTTP__PORT"] = str(self.port) if name.startswith("heir") else "0"
        with (self.folder / f"{name}.log").open("wb") as errors:
            worker = subprocess.Popen(
                [sys.executable, "-m", "streamcore.cli", "worker", str(PROGRAM), "--broker", self.url],
                env={**os.environ, **self.environment, **settings},
                cwd=self.folder,
                stderr=errors,
            )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    async def send(self, first: int, count: int, round: int) -> None:
        for start in range(first, first + count, PART):
            keys = np.arange(start, min(start + PART, first + count))
            texts = [f"{key:08}" * (WIDTH // 8) for key in keys]
            frame = pl.DataFrame(
                {"key": keys, "round": pl.repeat(round, len(keys), eager=True), "text": texts}
            )
            stamps = np.full(len(keys), int(time.time() * 1000))
            values = pa.array(Json().encode(frame), pa.binary())
            await (await self.log.append(self.environment["IN"], Records(values, stamps)))

    async def settled(self) -> None:
        """Until the group has committed all of the log, and nothing more comes out."""
        topic, before = f"{self.environment['GROUP']}.newest.log", -1
        for _ in range(PATIENCE):
            async with KafkaAdmin(KafkaConnection.parse(self.url)) as admin:
                committed = (await admin.committed(self.environment["GROUP"])).get((topic, 0), 0)
            bounds, out = await self.log.bounds(topic), await self.count()
            if bounds and committed >= bounds[0].end > 0 and out == before:
                return
            before = out
            await asyncio.sleep(1)
        raise RuntimeError("the workers do not finish")

    async def copied(self, name: str) -> None:
        """Until the worker has a copy, while some rows come."""
        for _ in range(PATIENCE * 2):
            if [path for path in (self.folder / name).rglob("*.log/*") if path.name.isdigit()]:
                return
            await self.send(0, 1, ROUNDS)
            await asyncio.sleep(0.5)
        raise RuntimeError("no copy is made")

    async def stood_by(self) -> None:
        """Until the heir's standby has all that the group has committed."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        for _ in range(PATIENCE * 10):
            with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:
                if _CAUGHT_UP.search(answer.read().decode()):
                    return
            await asyncio.sleep(0.1)
        raise RuntimeError("no standby catches up")

    async def first_row(self, killed: float, name: str, way: str) -> None:
        """Send a row, and wait until it is out."""
        before = await self.count()
        await self.send(0, 1, 1_000 + len(self.found))
        deadline = time.perf_counter() + PATIENCE
        while await self.count() == before:
            if time.perf_counter() > deadline:
                raise RuntimeError("no row comes out")
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - killed
        told = (self.folder / f"{name}.log").read_text()
        held, resumed = _HELD.findall(told), _RESUMED.findall(told)
        ends = await self.log.bounds(f"{self.environment['GROUP']}.newest.log")
        records = ends[0].end - int(resumed[-1]) if resumed else int(held[-1])
        self.found.append(Away(way, seconds, records))


async def takeovers(bootstrap: str, megabytes: int) -> list[Away]:
    """A partition with *megabytes* of state, started again and taken over, each in two ways."""
    run = f"takeover-{uuid.uuid4().hex[:6]}"
    url = f"kafka://{bootstrap}"
    environment = {
        "GROUP": run,
        "IN": f"{run}-in",
        "OUT": f"{run}-out",
        "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": str(SESSION),
        "STREAMCORE_DEAD_LETTERS__TOPIC": f"{run}-dead",
    }
    log = KafkaLog(KafkaConnection.parse(url))
    try:
        for topic in (environment["IN"], environment["OUT"]):
            await log.create(topic, 1, {"retention.ms": "-1"})
        with tempfile.TemporaryDirectory(dir=".") as folder:
            async with records_of(bootstrap, environment["OUT"], 1) as count:
                keys = megabytes * 1_000_000 // WIDTH
                with socket.create_server(("127.0.0.1", 0)) as free:
                    port = free.getsockname()[1]
                scene = _Scene(url, Path(folder).resolve(), log, count, environment, keys, port)
                await _measure(scene)
                return scene.found
    finally:
        await log.close()


async def _measure(scene: _Scene) -> None:
    with scene.worker("a"):
        for round in range(ROUNDS):
            await scene.send(0, scene.keys, round)
        await scene.copied("a")
        await scene.settled()
    for copies in (False, True):
        killed = time.perf_counter()
        with scene.worker("a", copies=copies):
            way = "started again, a copy on its disk" if copies else "started again, from the log"
            await scene.first_row(killed, "a", way)
            await scene.settled()
    for standbys in (0, 1):
        owner, heir = f"owner-{standbys}", f"heir-{standbys}"
        with scene.worker(owner, standbys=standbys) as owns:
            await scene.first_row(time.perf_counter(), owner, "")
            scene.found.pop()
            with scene.worker(heir, standbys=standbys, copies=False):
                await _until_told(scene.folder / f"{heir}.log", "worker of")
                await scene.settled()
                if standbys:
                    await scene.stood_by()
                killed = time.perf_counter()
                owns.kill()
                way = "taken over, from a standby" if standbys else "taken over, from the log"
                await scene.first_row(killed, heir, way)
                await scene.settled()


async def _until_told(path: Path, text: str) -> None:
    for _ in range(PATIENCE * 10):
        if text in path.read_text():
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{path.name} does not say {text!r}")
