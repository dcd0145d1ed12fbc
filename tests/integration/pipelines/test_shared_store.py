"""Orchestrators that share a store, and a store whose connection breaks under them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from streamcore.errors import Transient
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.records import Claim, PipelineRecord
from streamcore.metadata.states import AttemptStatus, PipelineStatus
from streamcore.pipelines.checks import Kinds
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from tests.faults.proxy import Proxy
from tests.services.postgres import PostgresServer

made: Counter[str] = Counter()
SHARED = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


async def work(options: Options, context: TaskContext) -> TaskResult:
    """Count that it was done, over a few turns of the loop."""
    made[f"{context.effect_id}#{context.attempt}"] += 1
    await asyncio.sleep(0.01)
    return TaskResult(rows=1)


KINDS: Kinds = {TaskType.PYTHON: Kind(Options, work)}


@pytest.fixture(autouse=True)
def fresh() -> None:
    made.clear()


def chain(length: int) -> PipelineConfig:
    tasks = [
        TaskConfig(task_id=f"t{n}", task_type=TaskType.PYTHON, depends_on=[f"t{n - 1}"] if n else [])
        for n in range(length)
    ]
    return PipelineConfig(pipeline_id="p", tasks=tasks)


async def check(store: Store, runs: list[str], tasks: int) -> None:
    """Each run has succeeded, each task at its first attempt, which was made once."""
    for run_id in runs:
        run = await store.run(run_id)
        assert run is not None
        assert run.status is PipelineStatus.SUCCESS, await store.tasks(run_id)
        attempts = await store.attempts(run_id)
        assert [(a.attempt, a.status) for a in attempts] == [(1, AttemptStatus.SUCCESS)] * tasks
        kinds = Counter(event.kind for event in await store.events(run_id))
        assert kinds == {
            "run.queued": 1, "run.running": 1, "run.success": 1, "task.running": tasks, "task.success": tasks,
        }  # fmt: skip
    assert set(made.values()) == {1}
    assert len(made) == len(runs) * tasks


@SHARED
async def test_orchestrators_share_the_runs_that_are_queued(url: str, store: Store) -> None:
    first = PipelineOrchestrator(url, kinds=KINDS)
    others = [PipelineOrchestrator(url, kinds=KINDS) for _ in range(2)]
    await first.start()
    await first.register_pipeline(chain(3))
    runs = [await first.trigger_pipeline("p", queue=True) for _ in range(12)]
    for other in others:
        await other.start()
    for run_id in runs:
        await asyncio.wait_for(first.wait(run_id), 60)
    for orchestrator in (first, *others):
        await orchestrator.stop()
    await check(store, runs, 3)


@SHARED
async def test_one_that_is_slow_to_renew_is_fenced_and_drops_its_run(store: Store) -> None:
    """Its lease is over before its task is: another one takes the run, and what it says then is not heard."""
    hold = asyncio.Event()

    async def slow(options: Options, context: TaskContext) -> TaskResult:
        made[f"attempt {context.attempt}"] += 1
        if context.attempt == 1:
            await hold.wait()
        return TaskResult(message=f"attempt {context.attempt}")

    kinds: Kinds = {TaskType.PYTHON: Kind(Options, slow)}
    old = PipelineOrchestrator(store, kinds=kinds, lease_seconds=0.05)
    await old.start()
    old._beating.cancel()  # type: ignore[union-attr]  # it stands still, as far as its lease is concerned
    await old.register_pipeline(chain(1))
    run_id = await old.trigger_pipeline("p")
    async with PipelineOrchestrator(store, kinds=kinds) as heir:
        view = await asyncio.wait_for(heir.wait(run_id), 60)
        assert view.tasks["t0"].reason == "attempt 2"
        events = await store.events(run_id)
        hold.set()
        await asyncio.wait_for(old._executions[run_id].over.wait(), 60)
        assert await store.events(run_id) == events
    states = [a.status for a in await store.attempts(run_id)]
    assert states == [AttemptStatus.LOST, AttemptStatus.SUCCESS]


@SHARED
async def test_a_run_that_was_claimed_in_vain_is_no_orphan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the claim and the work the store broke: the run is given back, and taken up again."""
    read, claim = store.pipeline, store.claim
    failures: list[Transient] = []
    broke = 0

    async def claim_and_break(*given: Any) -> Claim | None:
        if not broke:
            failures.append(Transient("the store broke"))
        return await claim(*given)

    async def pipeline(pipeline_id: str, version: int | None = None) -> PipelineRecord | None:
        nonlocal broke
        if failures:
            broke += 1
            raise failures.pop()
        return await read(pipeline_id, version)

    monkeypatch.setattr(store, "claim", claim_and_break)
    monkeypatch.setattr(store, "pipeline", pipeline)
    async with PipelineOrchestrator(store, kinds=KINDS, lease_seconds=600) as orchestrator:
        await orchestrator.register_pipeline(chain(2))
        run_id = await orchestrator.trigger_pipeline("p", queue=True)
        await asyncio.wait_for(orchestrator.wait(run_id), 60)
    assert broke == 1
    await check(store, [run_id], 2)


async def test_commits_whose_answers_are_lost_are_made_once(postgres: PostgresServer) -> None:
    url = postgres.fresh_database()
    store = await open_store(url)
    parts = urlsplit(url)
    async with Proxy(str(parts.hostname), int(parts.port or 0)) as proxy:
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        behind = urlunsplit(parts._replace(netloc=netloc, query="sslmode=disable"))
        async with PipelineOrchestrator(behind, kinds=KINDS) as orchestrator:
            await orchestrator.register_pipeline(chain(20))
            run_id = await orchestrator.trigger_pipeline("p")
            for turn in range(4):
                lost = proxy.lost
                proxy.lose_reply_to(b"COMMIT")
                while proxy.lost == lost:
                    await asyncio.sleep(0.01)
                if turn == 2:
                    proxy.cut()
            await asyncio.wait_for(orchestrator.wait(run_id), 60)
    await check(store, [run_id], 20)
    await store.close()


@pytest.mark.slow
async def test_a_store_that_is_away_is_waited_for(own_postgres: PostgresServer) -> None:
    url = own_postgres.fresh_database()
    async with PipelineOrchestrator(url, kinds=KINDS, lease_seconds=60) as orchestrator:
        await orchestrator.register_pipeline(chain(30))
        run_id = await orchestrator.trigger_pipeline("p")
        own_postgres.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(own_postgres.start)
        await asyncio.wait_for(orchestrator.wait(run_id), 60)
        store = await open_store(url)
        await check(store, [run_id], 30)
        await store.close()
