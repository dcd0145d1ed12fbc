"""What commands of a stream do to the store, once and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.partitioner import murmur2

from streamcore.errors import BadConfig
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.records import Claimable, RunMoved, TaskMoved
from streamcore.metadata.states import PipelineStatus, TaskStatus
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.share import Share
from streamcore.pipelines.streams.commands import Command, carry_out


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory:")
    task = TaskConfig(task_id="a", task_type=TaskType.EMPTY)
    config = PipelineConfig(pipeline_id="nightly", tasks=(task,), parameters={"day": "today"})
    await store.register("nightly", config.model_dump_json(exclude_defaults=True), 1)
    yield store
    await store.close()


async def told(store: Store, default_id: str = "made", **said: Any) -> None:
    await carry_out(store, Command.model_validate(said), default_id, 5)


async def test_a_trigger_makes_a_run_once(store: Store) -> None:
    for _ in range(2):
        await told(store, command="trigger", pipeline_id="nightly", parameters={"day": "2026-01-31"})
    await told(store, "other", command="trigger", pipeline_id="nightly", run_id="named", priority=3)
    runs = {run.run_id: run for run in await store.runs()}
    assert sorted(runs) == ["made", "named"]
    assert runs["made"].parameters == {"day": "2026-01-31"}
    assert (runs["named"].priority, runs["named"].status) == (3, PipelineStatus.QUEUED)
    assert [one for one in await store.claimable(9, 9) if one.run_id == "made"] == [Claimable("made", 5)]


async def test_a_run_is_cancelled_and_run_again(store: Store) -> None:
    await told(store, command="trigger", pipeline_id="nightly")
    await told(store, command="cancel", run_id="made")
    claim = await store.claim("made", "me", 99, 6)
    assert claim is not None
    (task,) = await store.tasks("made")
    ended = [
        RunMoved(PipelineStatus.QUEUED, PipelineStatus.CANCELLED),
        TaskMoved(task.status, replace(task, status=TaskStatus.CANCELLED)),
    ]
    await store.commit(claim, ended, 7)
    await told(store, command="cancel", run_id="made")  # it has ended: nothing is to be done
    for _ in range(2):
        await told(store, command="rerun", run_id="made")
    run = await store.run("made")
    assert run is not None
    assert run.status is PipelineStatus.QUEUED
    assert [e.kind for e in await store.events("made")].count("run.queued") == 2


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"command": "trigger", "pipeline_id": "nightli"}, "did you mean 'nightly'"),
        ({"command": "trigger", "pipeline_id": "nightly", "parameters": {"dya": 1}}, "no parameter 'dya'"),
        ({"command": "cancel", "run_id": "nobody"}, "no run 'nobody'"),
        ({"command": "rerun", "run_id": "nobody"}, "no run 'nobody'"),
    ],
)
async def test_what_cannot_be_done_is_said(store: Store, said: dict[str, Any], match: str) -> None:
    with pytest.raises(BadConfig, match=match):
        await told(store, **said)
    assert await store.runs() == []


def test_a_share_holds_the_runs_whose_records_are_in_its_partitions() -> None:
    ids = [f"run-{n}" for n in range(500)]
    share = Share()
    share.take([1, 3])
    assert share.has(ids) == set(), "it does not know yet how many partitions there are"
    share.partitions = 5
    place = {one: (murmur2(one.encode()) & 0x7FFFFFFF) % 5 for one in ids}  # as Kafka's clients choose it
    own = {one for one in ids if place[one] in (1, 3)}
    assert share.has(ids) == own
    assert 100 < len(own) < 300
    share.give([3])
    assert share.has(ids) == {one for one in own if place[one] == 1}
