"""The kinds of fault runs: a pipeline and what befalls it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tests.faults import embedded_run, faults
from tests.faults.embedded_run import EmbeddedRun
from tests.faults.nursery import Nursery
from tests.faults.run import Outcome, Run, Servers
from tests.faults.window_runs import WindowReplay, WindowRun

Pipeline: TypeAlias = Literal[
    "kafka-postgres",
    "kafka-files",
    "kafka-kafka",
    "kafka-kafka-exact",
    "embedded-files",
    "windows-postgres",
    "windows-files",
    "windows-kafka-exact",
]
_SINKS: dict[Pipeline, str] = {
    "kafka-postgres": "postgres",
    "kafka-files": "files",
    "kafka-kafka": "topic",
    "kafka-kafka-exact": "topic-exact",
    "windows-postgres": "postgres",
    "windows-kafka-exact": "topic-exact",
}
_POINTS = (
    "pipeline.taken_over",
    "pipeline.before_dead_letters",
    "pipeline.before_sinks",
    "commit.before",
    "commit.after",
)
_SINK_POINTS: dict[Pipeline, tuple[str, ...]] = {
    "kafka-postgres": ("postgres.before_commit", "postgres.after_commit"),
    "kafka-files": ("files.before_seal", "files.after_seal", "files.after_outputs"),
    "kafka-kafka": ("topic.confirmed",),
    "kafka-kafka-exact": ("topic.before_commit", "topic.after_commit"),
    "embedded-files": ("files.before_seal", "files.after_seal", "files.after_outputs"),
    "windows-kafka-exact": ("state_log.confirmed", "topic.before_commit", "topic.after_commit"),
    "windows-postgres": ("state_log.confirmed", "postgres.before_commit", "postgres.after_commit"),
    "windows-files": ("state_log.confirmed", "files.before_seal", "files.after_seal", "files.after_outputs"),
}


@dataclass(frozen=True)
class Kind:
    """``static``: workers have fixed names in the group. ``kills``: the servers that the fault kills."""

    pipeline: Pipeline
    fault: str
    act: Callable[[Run], Awaitable[None]] | None = None
    replay: Callable[[EmbeddedRun], Awaitable[None]] | None = None
    static: bool = True
    kills: Literal["", "kafka", "postgres"] = ""

    @property
    def name(self) -> str:
        return f"{self.pipeline}:{self.fault}"

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
        windowed = self.pipeline.startswith("windows")
        if self.replay is not None:
            replay = WindowReplay if windowed else EmbeddedRun
            return await replay(nursery, folder, seed, planted=planted).go(self.replay)
        assert self.act is not None
        sink, live = _SINKS[self.pipeline], WindowRun if windowed else Run
        run = live(sink, servers, nursery, folder, seed, static=self.static, planted=planted)
        return await run.go(self.act)


def _on_kafka(pipeline: Pipeline) -> list[Kind]:
    points, stops = (*_POINTS, *_SINK_POINTS[pipeline]), ("pipeline.before_sinks", _SINK_POINTS[pipeline][0])
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
        *_on_kafka(pipeline),
        Kind(pipeline, "postgres restart", faults.postgres_restarted, kills="postgres"),
        Kind(pipeline, "commit reply lost", faults.commit_reply_lost),
    ]


def _embedded(pipeline: Pipeline) -> list[Kind]:
    return [
        Kind(pipeline, "kill", replay=embedded_run.replay_killed),
        *(
            Kind(pipeline, f"kill at {point}", replay=embedded_run.replay_killed_at(point))
            for point in (*_POINTS, *_SINK_POINTS[pipeline])
        ),
    ]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in [
        *_on_postgres("kafka-postgres"),
        *_on_kafka("kafka-files"),
        *_on_kafka("kafka-kafka"),
        *_on_kafka("kafka-kafka-exact"),
        *_embedded("embedded-files"),
        *_on_postgres("windows-postgres"),
        *_embedded("windows-files"),
        *_on_kafka("windows-kafka-exact"),
    ]
}
