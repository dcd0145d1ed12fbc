"""The kinds of fault runs: a pipeline (a file and a line here) and what befalls it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults import embedded_run, faults
from tests.faults.embedded_run import EmbeddedRun
from tests.faults.nursery import Nursery
from tests.faults.run import Outcome, Run, Servers
from tests.faults.tables_runs import TablesReplay, TablesRun
from tests.faults.window_runs import WindowReplay, WindowRun

_POINTS = (
    "pipeline.taken_over",
    "pipeline.before_dead_letters",
    "pipeline.before_sinks",
    "commit.before",
    "commit.after",
)
_STATE = ("state_log.confirmed",)
_FILES = ("files.before_seal", "files.after_seal", "files.after_outputs")
_POSTGRES = ("postgres.before_commit", "postgres.after_commit")
_TOPIC = ("topic.confirmed",)
_EXACT = ("topic.before_commit", "topic.after_commit")


@dataclass(frozen=True)
class Pipeline:
    """``run`` is what makes one, to ``sink``; ``points`` are its crash points besides those of all."""

    name: str
    run: type[Run] | type[EmbeddedRun]
    sink: Literal["postgres", "files", "s3", "topic", "topic-exact"]
    points: tuple[str, ...]


PIPELINES = [
    Pipeline("kafka-postgres", Run, "postgres", _POSTGRES),
    Pipeline("kafka-files", Run, "files", _FILES),
    Pipeline("kafka-s3", Run, "s3", _FILES),
    Pipeline("kafka-kafka", Run, "topic", _TOPIC),
    Pipeline("kafka-kafka-exact", Run, "topic-exact", _EXACT),
    Pipeline("embedded-files", EmbeddedRun, "files", _FILES),
    Pipeline("windows-postgres", WindowRun, "postgres", _STATE + _POSTGRES),
    Pipeline("windows-files", WindowReplay, "files", _STATE + _FILES),
    Pipeline("windows-kafka-exact", WindowRun, "topic-exact", _STATE + _EXACT),
    Pipeline("tables-postgres", TablesRun, "postgres", _STATE + _POSTGRES),
    Pipeline("tables-files", TablesReplay, "files", _STATE + _FILES),
    Pipeline("tables-kafka-exact", TablesRun, "topic-exact", _STATE + _EXACT),
]


@dataclass(frozen=True)
class Kind:
    """``static``: workers have fixed names in the group. ``kills``: the servers that the fault kills."""

    pipeline: Pipeline
    fault: str
    act: Callable[[Run], Awaitable[None]] | None = None
    replay: Callable[[EmbeddedRun], Awaitable[None]] | None = None
    static: bool = True
    kills: Literal["", "kafka", "postgres", "s3"] = ""

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
        run = pipeline.run(pipeline.sink, servers, nursery, folder, seed, static=self.static, planted=planted)
        return await run.go(self.act)


def _kinds_of(pipeline: Pipeline) -> list[Kind]:
    if issubclass(pipeline.run, EmbeddedRun):
        return _embedded(pipeline)
    servers = {"postgres": _on_postgres, "s3": _on_s3}
    behind = servers.get(pipeline.sink)
    return [*_on_kafka(pipeline), *(behind(pipeline) if behind else [])]


def _on_kafka(pipeline: Pipeline) -> list[Kind]:
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


def _on_postgres(pipeline: Pipeline) -> list[Kind]:
    return [
        Kind(pipeline, "postgres restart", faults.postgres_restarted, kills="postgres"),
        Kind(pipeline, "commit reply lost", faults.reply_lost(b"COMMIT")),
    ]


def _on_s3(pipeline: Pipeline) -> list[Kind]:
    requests = b"/_seals/", b"?uploads", b"partNumber=", b"<CompleteMultipartUpload"
    return [
        Kind(pipeline, "s3 restart", faults.s3_restarted, kills="s3"),
        Kind(pipeline, "reply lost", faults.reply_lost(*requests)),
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
