"""The publisher, on the embedded log: each event once and in order, whatever dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import orjson
import pytest

from streamcore.errors import Transient
from streamcore.formats import format_named
from streamcore.metadata import open_store
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import AttemptMoved, AttemptRecord, RunMoved, TaskMoved
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.streams.events import PipelineEvent
from streamcore.pipelines.streams.outbox import Publisher
from streamcore.schema import StreamSchema
from streamcore.transport.embedded_broker import RETENTION, Broker
from streamcore.transport.embedded_log import EmbeddedLog

TOPIC = "pipelines.events"
SECOND = 1_000_000


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory:")
    yield store
    await store.close()


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[EmbeddedLog]:
    broker = Broker.open(f"embedded://{request.node.name}")
    broker.create(TOPIC, 4, {RETENTION: "all"})
    yield EmbeddedLog(broker)
    broker.close()


def publisher(store: Store, log: EmbeddedLog, owner: str = "me") -> Publisher:
    return Publisher(store, owner, 15 * SECOND, lambda: 0, log=log, topic=TOPIC, partitions=4)


async def ran(store: Store, run_id: str) -> None:
    """A run whose only task has succeeded."""
    await store.create_run(NewRun(run_id, "p", 1, ["a"]), 1)
    claim = await store.claim(run_id, "me", 99, 2)
    assert claim is not None
    (task,) = await store.tasks(run_id)
    one = AttemptRecord("a", 1, AttemptStatus.RUNNING, 3)
    begun = replace(task, status=TaskStatus.RUNNING, attempts=1)
    await store.commit(
        claim,
        [
            RunMoved(PipelineStatus.QUEUED, PipelineStatus.RUNNING),
            TaskMoved(task.status, begun),
            AttemptMoved(None, one),
        ],
        3_000_001,
    )
    done = [
        TaskMoved(begun.status, replace(begun, status=TaskStatus.SUCCESS, rows=5)),
        AttemptMoved(one.status, replace(one, status=AttemptStatus.SUCCESS)),
        RunMoved(PipelineStatus.RUNNING, PipelineStatus.SUCCESS),
    ]
    await store.commit(claim, done, 4 * SECOND)


KINDS = ["run.queued", "run.running", "task.running", "task.success", "run.success"]


async def published(log: EmbeddedLog) -> dict[str, list[dict[str, object]]]:
    """The events of each run, as they are in its partition."""
    found: dict[str, list[dict[str, object]]] = {}
    for partition, (start, end) in (await log.bounds(TOPIC)).items():
        async for chunk in log.scan(TOPIC, partition, start, end):
            for key, value in zip(chunk.keys(), chunk.values(), strict=True):
                document = orjson.loads(value or b"")
                assert key == document["run_id"].encode()
                found.setdefault(document["run_id"], []).append(document)
    return found


async def test_events_are_published_in_each_runs_order(store: Store, log: EmbeddedLog) -> None:
    runs = [f"run-{n}" for n in range(20)]
    for run_id in runs:
        await ran(store, run_id)
    assert await publisher(store, log).tick(9) == 100
    assert await store.unpublished(1) == []
    found = await published(log)
    assert {run_id: [e["kind"] for e in events] for run_id, events in found.items()} == dict.fromkeys(
        runs, KINDS
    )


async def test_the_schema_reads_what_is_published(store: Store, log: EmbeddedLog) -> None:
    await ran(store, "the-run")
    await publisher(store, log).tick(9)
    decoder = format_named("json").decoder(StreamSchema.of(PipelineEvent))
    rows, refused = [], 0
    for partition, (start, end) in (await log.bounds(TOPIC)).items():
        async for chunk in log.scan(TOPIC, partition, start, end):
            decoded = decoder.decode(chunk)
            refused += len(decoded.rejects)
            rows += decoded.frame.select("pipeline_id", "kind", "task_id", "attempt", "rows").rows()
            times = decoded.frame["at"].dt.epoch("us").to_list()
    assert refused == 0
    assert rows[2:] == [
        ("p", "task.running", "a", 1, None),
        ("p", "task.success", "a", 1, 5),
        ("p", "run.success", None, None, None),
    ]
    assert times == [1, 3_000_001, 3_000_001, 4_000_000, 4_000_000]


async def test_what_was_appended_and_not_noted_comes_again_in_order(
    store: Store, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ran(store, "the-run")
    dying = publisher(store, log)

    async def dies(ids: object, now: object) -> None:
        raise Transient("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "published", dies)
        with pytest.raises(Transient):
            await dying.tick(9)
    heir = publisher(store, log, "heir")
    assert await heir.tick(10) == 0, "the other one leads"
    assert await heir.tick(16 * SECOND) == len(KINDS)
    events = (await published(log))["the-run"]
    assert [e["kind"] for e in events] == KINDS * 2
    folded = list({e["event_id"]: e["kind"] for e in events}.values())
    assert folded == KINDS


async def test_more_than_a_page_is_published_at_once_and_before_the_end(
    store: Store, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "page", 2)
    monkeypatch.setattr(Publisher, "pause", 60.0)
    for n in range(3):
        await ran(store, f"run-{n}")
    one = publisher(store, log)
    one.start()
    await one.stop()
    assert sum(map(len, (await published(log)).values())) == 15
    assert await store.lease(Publisher.job, "other", SECOND, 1), "it is another one's turn"
