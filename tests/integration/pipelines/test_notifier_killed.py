"""Who sends notifications is killed with SIGKILL at each step: the next one sends what was to be told.

At least once, with the same id and the same words; what came meanwhile is folded into the message behind it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.notices import Notice
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.notifications.channels import FOLD_SECONDS
from streamcore.pipelines.notifications.notifier import SEND_SECONDS
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from streamcore.settings import Settings
from tests.integration.pipelines.servers import Received, http_server
from tests.integration.pipelines.test_killed import started
from tests.integration.pipelines.test_notifications import command, webhook

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


class Next(PipelineOrchestrator):
    """The one after the killed one, whose clock is moved: what that one had taken is free again."""

    def __init__(self, store: Store) -> None:
        self.ahead = 2 * SEND_SECONDS + 1
        super().__init__(store, settings=Settings(), clock=lambda: time.time() + self.ahead)


async def queued(store: Store, hooks: Received, task: TaskConfig) -> str:
    told: Any = {"on_failure": webhook(hooks)}
    config = PipelineConfig(pipeline_id="p", tasks=(task,), notifications=told)
    await store.register("p", config.model_dump_json(exclude_defaults=True), 1)
    await store.create_run(NewRun("r", "p", 1, [task.task_id]), now())
    return "r"


async def killed(url: str, run_id: str, folder: Path, point: str) -> None:
    process = started(url, run_id, folder, point)
    assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL, "it ended before the crash point"


def now() -> int:
    return round(time.time() * 1e6)


def notice(name: str) -> Notice:
    return Notice(name, f"run-{name}", "p", 1, "on_failure", now(), {"event": "on_failure"}, now())


@pytest.mark.parametrize(("point", "sent"), [("notification.taken", 0), ("notification.sent", 1)])
async def test_a_message_that_was_under_way_is_sent_by_the_next_one(
    store: Store, url: str, tmp_path: Path, point: str, sent: int
) -> None:
    async with http_server() as hooks:
        run_id = await queued(store, hooks, TaskConfig(task_id="t", task_type=TaskType.EMPTY))
        await store.notices.add([notice("a"), notice("b")])
        await killed(url, run_id, tmp_path, point)
        assert len(hooks.posts) == sent
        await store.notices.add([notice("c"), notice("d")])
        orchestrator = Next(store)
        async with orchestrator:
            await hooks.until(posts=sent + 1)
            while (await store.notices.last("p", "on_failure"))[0]:  # it notes that it is sent
                await asyncio.sleep(0.02)
            orchestrator.ahead += FOLD_SECONDS + SEND_SECONDS
            await hooks.until(posts=sent + 2)
        assert await store.notices.due(2**60, 10) == []
    said = [json.loads(post.body) for post in hooks.posts]
    assert [one["runs"] for one in said] == [*[["run-a", "run-b"]] * (sent + 1), ["run-c", "run-d"]]
    assert [post.headers["webhook-id"] for post in hooks.posts] == [*["a"] * (sent + 1), "c"]
    assert len({post.body for post in hooks.posts}) == 2


@pytest.mark.parametrize("point", ["pipeline.decided:2", "pipeline.committed:2"])
async def test_what_a_run_has_to_tell_is_told_though_its_orchestrator_dies_at_its_end(
    store: Store, url: str, tmp_path: Path, point: str
) -> None:
    async with http_server() as hooks:
        run_id = await queued(store, hooks, command("false"))
        await killed(url, run_id, tmp_path, point)
        async with Next(store) as orchestrator:
            await orchestrator.wait(run_id)
            await hooks.until(posts=1)
        assert await store.notices.due(2**60, 10) == []
    assert {json.loads(post.body)["run_id"] for post in hooks.posts} == {run_id}
    assert len({post.headers["webhook-id"] for post in hooks.posts}) == 1
