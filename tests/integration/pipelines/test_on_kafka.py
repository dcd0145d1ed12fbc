"""Workers of pipelines on Kafka: commands in, runs shared by a group, events out, whoever is killed when."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamcore.contracts import Records
from streamcore.crashpoints import VARIABLE
from streamcore.deadletter.reader import read
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.records import RunRecord
from streamcore.metadata.states import RUN_ENDS, AttemptStatus, PipelineStatus
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from streamcore.pipelines.share import Share
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
TASK = ["task.running", "task.success"]
KINDS = ["run.queued", "run.running", *TASK, *TASK, "run.success"]


class Scene:
    """A store, topics of a name of their own, and worker processes."""

    def __init__(self, kafka: KafkaServer, url: str, folder: Path) -> None:
        self.broker, self.url, self.folder = kafka.url, url, folder
        self.name = f"pipelines-{uuid4().hex[:8]}"
        self.log = KafkaLog(KafkaConnection.parse(kafka.url))
        self.workers: list[subprocess.Popen[bytes]] = []
        self.store: Store

    def start(self, crash: str = "") -> subprocess.Popen[bytes]:
        """A further worker."""
        environment = {**os.environ, VARIABLE: crash, "PYTHONPATH": str(ROOT)}
        words = [
            sys.executable,
            "-m",
            "tests.integration.pipelines.kafka_work",
            self.broker,
            self.url,
            self.name,
        ]
        process = subprocess.Popen(words, cwd=self.folder, env=environment, start_new_session=True)
        self.workers.append(process)
        return process

    async def register(self, *words: str) -> None:
        """The pipeline ``p``: a transaction that notes its run, and a command that notes its attempt."""
        noted = {
            "connection_string": f"sqlite:///{self.folder}/out.db",
            "sql": "insert into done values ('${run:id}')",
        }
        shell = f"echo ${{run:id}} $STREAMCORE_ATTEMPT >> {self.folder}/notes; {' '.join(words)}"
        command = {"command": ["sh", "-c", shell]}
        tasks = (
            TaskConfig(task_id="note", task_type=TaskType.SQL, parameters=noted),
            TaskConfig(task_id="say", task_type=TaskType.COMMAND, depends_on=["note"], parameters=command),
        )
        config = PipelineConfig(pipeline_id="p", tasks=tasks, parameters={"n": 0})
        await self.store.register("p", config.model_dump_json(exclude_defaults=True), 1)

    async def send(self, *commands: dict[str, Any] | bytes) -> None:
        """Commands, as anybody may send them."""
        values = [one if isinstance(one, bytes) else orjson.dumps(one) for one in commands]
        topic = f"{self.name}.commands"
        await self.log.create(topic, 6, {})
        for value in values:  # one a batch, so each goes to another partition
            stamps = np.full(1, int(time.time() * 1000))
            await (await self.log.append(topic, Records(pa.array([value], pa.binary()), stamps)))

    async def ended(self, count: int, seconds: float = 90) -> list[RunRecord]:
        """The runs, when there are *count* and all have ended."""
        return await self.until(
            lambda runs: len(runs) >= count and all(r.status in RUN_ENDS for r in runs), seconds
        )

    async def until(
        self, condition: Callable[[list[RunRecord]], bool], seconds: float = 90
    ) -> list[RunRecord]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            runs = await self.store.runs(limit=1000)
            assert self.workers[-1].poll() is None, "the worker has ended"
            if condition(runs):
                return runs
            await asyncio.sleep(0.1)
        raise AssertionError(Counter(run.status for run in runs))

    async def events(self, runs: int) -> dict[str, list[str]]:
        """The kinds of the events of each run that are published, each once, when *runs* have ended there."""
        deadline = time.monotonic() + 60
        while True:
            found: dict[str, dict[int, str]] = {}
            for partition, (start, end) in (await self.log.bounds(f"{self.name}.events")).items():
                async for chunk in self.log.scan(f"{self.name}.events", partition, start, end):
                    for value in chunk.values():
                        event = orjson.loads(value or b"")
                        found.setdefault(event["run_id"], {}).setdefault(event["event_id"], event["kind"])
            kinds = {run_id: list(events.values()) for run_id, events in found.items()}
            if sum(one[-1] == "run.success" for one in kinds.values()) == runs:
                return kinds
            assert time.monotonic() < deadline, kinds
            await asyncio.sleep(0.2)

    def effects(self) -> list[str]:
        """The runs whose transaction was made, as often as it was."""
        with sqlite3.connect(self.folder / "out.db") as database:
            return [row[0] for row in database.execute("select run_id from done")]


@pytest.fixture
async def scene(kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Scene]:
    with sqlite3.connect(tmp_path / "out.db") as database:
        database.execute("create table done (run_id text)")
    scene = Scene(kafka, postgres.fresh_database(), tmp_path)
    scene.store = await open_store(scene.url)
    yield scene
    for worker in scene.workers:
        worker.kill()
        worker.wait()
    await scene.store.close()
    await scene.log.close()


def trigger(n: int = 0) -> dict[str, Any]:
    return {"command": "trigger", "pipeline_id": "p", "parameters": {"n": n}}


async def test_commands_become_runs_that_workers_share(scene: Scene) -> None:
    await scene.register()
    workers = [scene.start(), scene.start()]
    bad = [b"not json", {"command": "trigger", "pipeline_id": "q"}, {"command": "stop", "run_id": "x"}]
    await scene.send(*bad)
    sent, owners = 0, set[str | None]()
    while len(owners) < 2:  # the first worker has all until the second one is a member
        assert sent < 400, "one of them had all runs"
        await scene.send(*[trigger(n) for n in range(sent, sent + 10)])
        sent += 10
        runs = await scene.ended(sent)
        owners = {run.owner for run in runs}
    assert len(runs) == sent
    assert {run.status for run in runs} == {PipelineStatus.SUCCESS}
    assert sorted(run.parameters["n"] for run in runs) == list(range(sent))  # type: ignore[type-var]
    assert sorted(scene.effects()) == sorted(run.run_id for run in runs)
    assert await scene.events(sent) == {run.run_id: KINDS for run in runs}

    letters = [letter async for letter in read(scene.log, f"{scene.name}.dead-letters")]
    assert {letter.code for letter in letters} == {"command"}
    assert sorted("no pipeline 'q'" in letter.message for letter in letters) == [False, False, True]

    for worker in workers:
        worker.terminate()
    assert [await asyncio.to_thread(worker.wait, 60) for worker in workers] == [0, 0]


@pytest.mark.parametrize(
    "crash",
    [
        "outbox.sent:2",
        pytest.param("outbox.noted:1", marks=pytest.mark.slow),
        pytest.param("pipeline.committed:5", marks=pytest.mark.slow),
        pytest.param("pipeline.effect:3", marks=pytest.mark.slow),
    ],
)
async def test_a_killed_workers_runs_go_on(scene: Scene, crash: str) -> None:
    await scene.register()
    first = scene.start(crash)
    await scene.send(*[trigger(n) for n in range(10)])
    assert await asyncio.to_thread(first.wait, 60) == -signal.SIGKILL, "it ended before the crash point"
    await scene.send(*[trigger(n) for n in range(10, 15)])
    scene.start()
    runs = await scene.ended(15)
    assert len(runs) == 15, "a command was lost or doubled"
    assert {run.status for run in runs} == {PipelineStatus.SUCCESS}
    assert sorted(scene.effects()) == sorted(run.run_id for run in runs)
    for run in runs:
        ends = [a.status for a in await scene.store.attempts(run.run_id)]
        assert set(ends) <= {AttemptStatus.SUCCESS, AttemptStatus.LOST}
        assert ends.count(AttemptStatus.SUCCESS) == 2
    for kinds in (await scene.events(15)).values():
        assert [kind for kind in kinds if kind.startswith("run.")] == [
            "run.queued",
            "run.running",
            "run.success",
        ]


async def test_runs_do_not_wait_for_a_broker(scene: Scene) -> None:
    """Whose partition nobody has is anybody's after a while: here the only other worker is no member."""
    await scene.register("sleep 0.1")
    async with PipelineOrchestrator(scene.url, share=Share(), lease_seconds=2.0) as orchestrator:
        began = time.monotonic()
        run_id = await orchestrator.trigger_pipeline("p", queue=True)
        view = await asyncio.wait_for(orchestrator.wait(run_id), 60)
        assert view.status is PipelineStatus.SUCCESS
        assert time.monotonic() - began >= 2.0
