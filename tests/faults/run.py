"""One fault run: rows flow through real workers, a fault comes, heals, and the oracle judges what is there.

::

    feed ──▶ Kafka ──▶ workers (kept by the supervisor) ──▶ target
      └── journal ────────────── judge ◀──────────────────────┘ and dead letters
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from aiokafka.errors import KafkaError

from tests.faults.feed import Feed, RowMaker, delete_topics, make_topics
from tests.faults.journal import Produced, judge
from tests.faults.nursery import Nursery
from tests.faults.planted import VARIABLE
from tests.faults.processes import WorkerProcess
from tests.faults.proxy import Proxy
from tests.faults.rows import CANARY, Maker
from tests.faults.servers import Servers
from tests.faults.sinks import SINKS, Place
from tests.faults.supervisor import Supervisor
from tests.faults.targets import BehindAServer, Positions, Seen, Target
from tests.services import mariadb, mongo, redis
from tests.services.kafka_topics import records
from tests.services.postgres import PASSWORD
from tests.services.s3 import SECRET_KEY
from tests.services.server import Server
from tests.services.small_disk import SmallDisk

PATIENCE = float(os.environ.get("STREAMCORE_FAULT_PATIENCE", "1"))
"""Everything may take so many times as long: on a machine that others keep busy."""
RECOVERY_LIMIT = 30.0
"""Seconds from healing until everything that had been produced by then has its effect."""
SESSION_SECONDS = 6
TOPOLOGY = "tests/faults/fault_topology.py"
_LOOK_SECONDS = 0.1
_START_SECONDS = 30.0
_UNEXPLAINED = "which streamcore should have explained"
_GIVE_UP_SECONDS = 75.0
_FETCH_BYTES, _PADDING = 16_384, 1_000
_PASSWORDS = {
    "PostgreSQL": PASSWORD,
    "MariaDB": mariadb.PASSWORD,
    "MongoDB": mongo.PASSWORD,
    "Redis": redis.PASSWORD,
}
AWAY = (OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError)


class Invalid(Exception):
    """The run proves nothing, e.g. since the fault never came."""


@dataclass
class Outcome:
    """What a run found. It holds when there is no failure; ``recovery`` in seconds, one a fault."""

    wrong: list[str] = field(default_factory=list)
    """What is not as promised: rows, dead letters, positions, and what a finished replay does."""
    workers: list[str] = field(default_factory=list)
    """Failures of the workers: slow, ended as they should not, told what they should not."""
    restarts: int = 0
    causes: list[str] = field(default_factory=list)
    kills: int = 0
    recovery: list[float] = field(default_factory=list)
    rows: int = 0

    @property
    def failures(self) -> list[str]:
        return [*self.wrong, *self.workers]

    def note(self, supervisor: Supervisor) -> None:
        """What the workers did, and what they may not do."""
        self.workers += supervisor.failures + told_secrets(supervisor.outputs())
        self.restarts, self.causes, self.kills = supervisor.restarts, supervisor.causes, supervisor.kills
        self.workers += [f"a worker ended with {cause}" for cause in self.causes if _UNEXPLAINED in cause]


class Run:
    """What a fault sees of the run: its ``dice``, the ``feed``, the ``supervisor`` and the target."""

    topology = TOPOLOGY
    rate = 800
    """Rows a second; fewer where everything takes longer."""

    def __init__(
        self,
        sink: str,
        servers: Servers,
        nursery: Nursery,
        folder: Path,
        seed: int,
        *,
        static: bool,
        planted: str,
        disk: SmallDisk | None = None,
    ) -> None:
        self.dice = random.Random(seed)
        self.disk = disk
        self.servers, self.outcome = servers, Outcome()
        self.name = f"f{seed}-{uuid.uuid4().hex[:6]}"
        self.topic = f"{self.name}.rows"
        self.proxy: Proxy | None = None
        self.fetch_bytes: Callable[[], int] = lambda: _FETCH_BYTES
        self._sink, self._nursery, self._folder = sink, nursery, folder
        self._static, self._planted = static, planted
        self.target, self.maker = self._target(), self._maker()
        journal = folder / "journal.jsonl"
        self.feed = Feed(servers.kafka.bootstrap, self.topic, self.maker, journal, self.rate / PATIENCE)
        self.supervisor = Supervisor(self._spawn)
        self._looks: list[Seen] = []

    def _target(self) -> Target:
        place = Place(self.servers, self.disk.path if self.disk else self._folder, self.name, self.topic)
        return SINKS[self._sink].target(place)

    def _maker(self) -> RowMaker:
        return Maker(self.dice, self._sink, _PADDING if self.disk else 0)

    def _environment(self) -> Mapping[str, str]:
        """What the topology is told besides."""
        return {}

    def _spawn(self, slot: int, crash: str) -> WorkerProcess:
        identity = ["--instance-id", f"{self.name}-{slot % 10}"] if self._static else []
        environment = {
            **worker_environment(self._folder / f"state-{slot}", self._planted, crash),
            "STREAMCORE_LIMITS__FETCH_MAX_BYTES": str(self.fetch_bytes()),
            "SC_FAULT_NAME": self.name,
            "SC_FAULT_TOPIC": self.topic,
            "SC_FAULT_SINK": self._sink,
            "SC_FAULT_TARGET": self.target.address,
            **self._environment(),
        }
        words = ["worker", self.topology, "--broker", self.servers.kafka.url, *identity]
        log = self._folder / f"worker-{slot}.log"
        return WorkerProcess(words, log=log, environment=environment, nursery=self._nursery)

    # ------------------------------------------------------------ for the faults

    def fail(self, what: str) -> None:
        """Note what is wrong with what is there."""
        self.outcome.wrong.append(what)

    @property
    def server(self) -> Server:
        """The sink's server."""
        return self.servers.of(SINKS[self._sink].server)

    async def flowing(self) -> None:
        """Wait until the target moves; Invalid when it does not."""
        before = await self.progress()

        async def moved() -> bool:
            return await self.progress() > before

        if not await until(moved, _START_SECONDS):
            raise Invalid(f"nothing moved before the fault: {self._last_words()}")

    async def recovered(self, since: float | None = None) -> None:
        """Healed, now or at *since*: wait until what is produced by now has its effect; notes the seconds."""
        began = time.monotonic() if since is None else since
        done = await until(self._caught_up(), _GIVE_UP_SECONDS)
        seconds = time.monotonic() - began
        self.outcome.recovery.append(seconds)
        if not done or seconds > RECOVERY_LIMIT * PATIENCE:
            self.outcome.workers.append(f"not recovered in {seconds:.0f} s: {self._last_words()}")

    async def look(self) -> Seen:
        """Look at the target now; what was seen is judged at the end."""
        seen = await self.target.look()
        self._looks.append(seen)
        return seen

    async def progress(self) -> int:
        """A number that grows while the target moves."""
        return sum((await self._positions()).values())

    def _caught_up(self) -> Callable[[], Awaitable[bool]]:
        """Asks whether everything that is produced by now has its effect."""
        ends = dict(self.feed.ends)

        async def caught_up() -> bool:
            now = await self._positions()
            return all(now.get(partition, 0) >= end for partition, end in ends.items())

        return caught_up

    async def _positions(self) -> Positions:
        with contextlib.suppress(*AWAY):
            return await asyncio.wait_for(self.target.positions(), 10)
        return {}

    def _last_words(self) -> str:
        lines = [line for line in self.supervisor.outputs().splitlines() if line.strip()]
        return (lines or ["no output"])[-1][:300]

    # ------------------------------------------------------------ the whole

    async def go(self, fault: Callable[[Run], Awaitable[None]]) -> Outcome:
        """The run from its start to the verdict."""
        bootstrap = self.servers.kafka.bootstrap
        await make_topics(
            bootstrap, self.topic, *([self.target.address] if self._sink.startswith("topic") else [])
        )
        await self.target.prepare()
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(self.target, BehindAServer):
                self.proxy = await stack.enter_async_context(Proxy(*self.target.server_address))
                self.target.go_through(self.proxy.port)
            await stack.enter_async_context(self.feed)
            await stack.enter_async_context(self.supervisor)
            try:
                await fault(self)
            except Invalid as why:
                supervisor = self.supervisor
                raise Invalid(f"{why}; {supervisor.kills} kills; restarts: {supervisor.causes}") from why
            await self.feed.off()
            await self._last_rows()
            await self.recovered()
            for slot in list(self.supervisor.workers):
                await self.supervisor.leave(slot)
            await self._judge()
        with contextlib.suppress(*AWAY):
            await delete_topics(bootstrap, self.name)
        return self.outcome

    async def _last_rows(self) -> None:
        """What the feed sends at the end: nothing."""

    async def _judge(self) -> None:
        produced = self.feed.produced()
        dead, seen = await self._dead(produced), await self.look()
        verdict = judge(produced, seen.effects, dead, ordered=True)
        self.outcome.rows = verdict.rows
        if not verdict.holds:
            self.fail(str(verdict))
        self._judge_positions(seen.positions)
        self._judge_looks({row.id for row in produced.rows.values() if row.fate == "effect"})
        self.outcome.note(self.supervisor)

    async def _dead(self, produced: Produced) -> list[str]:
        """The rows that are dead letters; repeats of a letter are folded."""
        letters = {}
        for record in await records(self.servers.kafka.bootstrap, f"{self.name}.dead-letters"):
            letters[dict(record.headers)["sc-id"]] = record.value
        dead = produced.ids_of(letters.values())
        if len(set(dead)) < len(dead):
            self.fail("a row has two dead letters of different ids")
        return dead

    def _judge_positions(self, stored: Positions) -> None:
        wanted = dict(self.feed.ends)
        if {p: stored.get(p) for p in wanted} != wanted:
            self.fail(f"the stored positions are {dict(stored)}, the log ends at {wanted}")

    def _judge_looks(self, effects: set[str]) -> None:
        """Each look: what lies before the stored position is there and, where it is exact, nothing else."""
        for seen in self._looks:
            there = set(seen.effects)
            passed = {name for name, (p, at) in self.feed.places.items() if at < seen.positions.get(p, 0)}
            if missing := (passed & effects) - there:
                self.fail(f"position says that {len(missing)} rows are there which are not ({min(missing)})")
            known = there & self.feed.places.keys()
            if seen.exact and (early := known - passed):
                self.fail(f"{len(early)} rows are there beyond the position ({min(early)})")


def worker_environment(state: Path, planted: str, crash: str) -> Mapping[str, str]:
    """Small chunks, short waits: much happens in few seconds."""
    return {
        "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": str(SESSION_SECONDS),
        "STREAMCORE_RUNTIME__COMMIT_INTERVAL_S": "0.2",
        "STREAMCORE_RETRY__MAX_S": "1",
        "STREAMCORE_LIMITS__FETCH_MAX_BYTES": str(_FETCH_BYTES),
        "STREAMCORE_STATE__DIR": str(state),
        "STREAMCORE_HTTP__PORT": "0",
        "STREAMCORE_CRASH_POINT": crash,
        "POLARS_MAX_THREADS": "1",
        VARIABLE: planted,
    }


def told_secrets(text: str) -> list[str]:
    """What the workers' output must not hold, as failures."""
    secrets = {
        **{f"the password of {name}": word for name, word in _PASSWORDS.items()},
        "the secret key": SECRET_KEY,
        "a row's content": CANARY,
    }
    return [f"a worker wrote {what} to its output" for what, secret in secrets.items() if secret in text]


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Ask until it *holds*, for so long at most, by PATIENCE."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS * PATIENCE)
    return True
