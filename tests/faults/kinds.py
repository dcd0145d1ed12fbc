"""The kinds of fault runs: a pipeline (a file and a line here) and what befalls it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import embedded_run, faults
from tests.faults.embedded_run import EmbeddedRun
from tests.faults.nursery import Nursery
from tests.faults.run import Outcome, Run
from tests.faults.servers import STARTS, Servers
from tests.faults.sinks import SINKS
from tests.faults.tables_runs import TablesReplay, TablesRun
from tests.faults.window_runs import WindowReplay, WindowRun
from tests.services.native import data_below
from tests.services.small_disk import SmallDisk

_POINTS = (
    "pipeline.taken_over",
    "pipeline.before_dead_letters",
    "pipeline.before_sinks",
    "commit.before",
    "commit.after",
)
_STATE = ("state_log.confirmed",)


@dataclass(frozen=True)
class Pipeline:
    """``run`` is what makes one, to ``sink``; ``state``: crash points besides those of all and the sink's.

    ``narrow``: only faults that concern the sink; what others find is found with any sink.
    """

    name: str
    run: type[Run] | type[EmbeddedRun]
    sink: str
    state: tuple[str, ...] = ()
    narrow: bool = False

    @property
    def points(self) -> tuple[str, ...]:
        return (*self.state, *SINKS[self.sink].points)


PIPELINES = [
    Pipeline("kafka-postgres", Run, "postgres"),
    Pipeline("kafka-mysql", Run, "mysql", narrow=True),
    Pipeline("kafka-sqlite", Run, "sqlite", narrow=True),
    Pipeline("kafka-mongodb", Run, "mongodb", narrow=True),
    Pipeline("kafka-redis", Run, "redis", narrow=True),
    Pipeline("kafka-files", Run, "files"),
    Pipeline("kafka-s3", Run, "s3"),
    Pipeline("kafka-http", Run, "http", narrow=True),
    Pipeline("kafka-kafka", Run, "topic"),
    Pipeline("kafka-kafka-exact", Run, "topic-exact"),
    Pipeline("embedded-files", EmbeddedRun, "files"),
    Pipeline("windows-postgres", WindowRun, "postgres", _STATE),
    Pipeline("windows-files", WindowReplay, "files", _STATE),
    Pipeline("windows-kafka-exact", WindowRun, "topic-exact", _STATE),
    Pipeline("tables-postgres", TablesRun, "postgres", _STATE),
    Pipeline("tables-files", TablesReplay, "files", _STATE),
    Pipeline("tables-kafka-exact", TablesRun, "topic-exact", _STATE),
]


@dataclass(frozen=True)
class Kind:
    """``static``: workers have fixed names in the group. ``kills``: the server that the fault kills.

    ``disk``: megabytes of a disk of its own, for the sink and its server.
    """

    pipeline: Pipeline
    fault: str
    act: Callable[[Run], Awaitable[None]] | None = None
    replay: Callable[[EmbeddedRun], Awaitable[None]] | None = None
    static: bool = True
    kills: str = ""
    disk: int = 0

    @property
    def name(self) -> str:
        return f"{self.pipeline.name}:{self.fault}"

    async def run(
        self, seed: int, servers: Servers, nursery: Nursery, planted: str = "", keep: Path | None = None
    ) -> Outcome:
        """One run; Invalid when it proves nothing. Its files are copied to *keep* unless it holds."""
        folder, holds = Path(tempfile.mkdtemp(prefix="streamcore-fault-")), False
        try:
            outcome = await self._run(seed, servers, nursery, folder, planted)
            holds = not outcome.failures
            return outcome
        finally:
            if keep is not None and not holds:
                shutil.copytree(folder, keep, dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    async def _run(
        self, seed: int, servers: Servers, nursery: Nursery, folder: Path, planted: str
    ) -> Outcome:
        pipeline = self.pipeline
        if issubclass(pipeline.run, EmbeddedRun):
            assert self.replay is not None
            return await pipeline.run(nursery, folder, seed, planted=planted).go(self.replay)
        assert self.act is not None
        with ExitStack() as stack:
            disk, servers = await asyncio.to_thread(self._disk, servers, folder, stack)
            run = pipeline.run(
                pipeline.sink,
                servers,
                nursery,
                folder,
                seed,
                static=self.static,
                planted=planted,
                disk=disk,
            )
            return await run.go(self.act)

    def _disk(self, servers: Servers, folder: Path, stack: ExitStack) -> tuple[SmallDisk | None, Servers]:
        """The disk that is to be filled, and the sink's server on it."""
        if not self.disk:
            return None, servers
        disk = stack.enter_context(SmallDisk(folder / "disk", self.disk))
        if name := SINKS[self.pipeline.sink].server:
            folder.chmod(0o711)  # a server that runs as another user must walk through it
            with data_below(disk.path):
                server = STARTS[name]()
            stack.callback(server.close)
            servers = replace(servers, **{name: server})
        return disk, servers


def _kinds_of(pipeline: Pipeline) -> list[Kind]:
    if issubclass(pipeline.run, EmbeddedRun):
        return _embedded(pipeline)
    sink = SINKS[pipeline.sink]
    kinds = _of_the_sink(pipeline) if pipeline.narrow else _of_all(pipeline)
    if sink.server:
        restart = f"{pipeline.sink} restart"
        kinds.append(Kind(pipeline, restart, faults.server_restarted, kills=sink.server))
    if sink.replies:
        kinds.append(Kind(pipeline, sink.lost, faults.reply_lost(*sink.replies)))
    if pipeline.run is Run:
        kinds.append(Kind(pipeline, "another cut", faults.cut_otherwise(sink.points[-1])))
    if sink.disk and pipeline.run is Run:
        kinds.append(Kind(pipeline, "disk full", faults.disk_full(bool(sink.server)), disk=sink.disk))
    return kinds


def _of_all(pipeline: Pipeline) -> list[Kind]:
    points, stops = (*_POINTS, *pipeline.points), ("pipeline.before_sinks", pipeline.points[0])
    return [
        Kind(pipeline, "kill", faults.killed),
        Kind(pipeline, "kill dynamic", faults.killed, static=False),
        *(Kind(pipeline, f"kill at {point}", faults.killed_at(point)) for point in points),
        Kind(pipeline, "zombie", faults.zombie(), static=False),
        *(Kind(pipeline, f"zombie at {point}", faults.zombie(point), static=False) for point in stops),
        Kind(pipeline, "twin", faults.twin),
        Kind(pipeline, "rebalance storm", faults.storm, static=False),
        Kind(pipeline, "broker restart", faults.broker_restarted, kills="kafka"),
    ]


def _of_the_sink(pipeline: Pipeline) -> list[Kind]:
    points = ("pipeline.before_dead_letters", *pipeline.points, "commit.before")
    names = {stop: f"zombie at {stop}" if stop else "zombie" for stop in SINKS[pipeline.sink].stops}
    return [
        Kind(pipeline, "kill", faults.killed),
        *(Kind(pipeline, f"kill at {point}", faults.killed_at(point)) for point in points),
        *(Kind(pipeline, name, faults.zombie(stop), static=False) for stop, name in names.items()),
    ]


def _embedded(pipeline: Pipeline) -> list[Kind]:
    return [
        Kind(pipeline, "kill", replay=embedded_run.replay_killed),
        *(
            Kind(pipeline, f"kill at {point}", replay=embedded_run.replay_killed_at(point))
            for point in (*_POINTS, *pipeline.points)
        ),
    ]


KINDS: dict[str, Kind] = {kind.name: kind for pipeline in PIPELINES for kind in _kinds_of(pipeline)}
