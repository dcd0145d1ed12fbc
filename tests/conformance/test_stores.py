"""What a store of metadata promises, on each that there is. The contract: streamcore/metadata/contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamcore.errors import BadConfig, Fenced, Permanent
from streamcore.metadata import DATABASES, open_store, writing
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.database import Statement
from streamcore.metadata.migrations import STEPS
from streamcore.metadata.records import (
    AttemptMoved,
    AttemptRecord,
    Claim,
    Claimable,
    Progress,
    RunMoved,
    RunTotals,
    TaskMoved,
)
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus
from tests.services.databases import empty_database

Open = Callable[[], Awaitable[Store]]
MINUTE = 60_000_000
R, T, A = PipelineStatus, TaskStatus, AttemptStatus


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return empty_database(request.param, request, tmp_path)


@pytest.fixture
async def open_another(url: str) -> AsyncIterator[Open]:
    """Opens a further store on the same rows, as another process would."""
    opened: list[Store] = []

    async def open_one() -> Store:
        if url == "memory:" and opened:
            return opened[0]
        opened.append(await open_store(url))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_another: Open) -> Store:
    return await open_another()


_ids = count()


async def queued(store: Store, *tasks: str, now: int = 1, **more: Any) -> str:
    run_id = f"run-{next(_ids)}"
    assert await store.create_run(NewRun(run_id, "p", 1, tasks or ("a", "b"), **more), now)
    return run_id


async def waiting(store: Store, now: int, limit: int) -> list[str]:
    return [one.run_id for one in await store.claimable(now, limit)]


async def claimed(store: Store, run_id: str, owner: str = "me", now: int = 1, until: int = MINUTE) -> Claim:
    claim = await store.claim(run_id, owner, until, now)
    assert claim is not None
    return claim


async def started(store: Store, claim: Claim, task_id: str = "a", now: int = 5) -> None:
    task = next(t for t in await store.tasks(claim.run_id) if t.task_id == task_id)
    after = replace(task, status=T.RUNNING, attempts=task.attempts + 1, started_us=now)
    attempt = AttemptRecord(task_id, after.attempts, A.RUNNING, now)
    await store.commit(claim, [TaskMoved(task.status, after), AttemptMoved(None, attempt)], now)


async def test_pipelines_have_versions(store: Store) -> None:
    first = await store.register("p", '{"a":1}', 10)
    assert await store.register("p", '{"a":1}', 20) == first
    second = await store.register("p", '{"a":2}', 30)
    assert (first.version, second.version) == (1, 2)
    await store.register("o", "{}", 40)
    assert [(p.pipeline_id, p.version) for p in await store.pipelines()] == [("o", 1), ("p", 2)]
    assert await store.pipeline("p") == second
    assert await store.pipeline("p", 1) == first
    assert await store.pipeline("none") is None


async def test_the_same_pipeline_registered_at_once_gets_each_version_once(open_another: Open) -> None:
    stores = [await open_another() for _ in range(3)]
    got = await asyncio.gather(*(s.register("p", f'{{"v":{n}}}', n) for n, s in enumerate(stores * 2)))
    assert sorted(one.version for one in got) == [1, 2, 3, 4, 5, 6]


async def test_a_run_begins_with_its_tasks_and_parameters(store: Store) -> None:
    run_id = await queued(store, "a", "b", "c", now=7, parameters={"day": "2024-01-01", "n": 3})
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.created_us, run.owner, run.parameters) == (
        R.QUEUED, 7, None, {"day": "2024-01-01", "n": 3},
    )  # fmt: skip
    assert [(t.task_id, t.status) for t in await store.tasks(run_id)] == [
        ("a", T.PENDING), ("b", T.PENDING), ("c", T.PENDING),
    ]  # fmt: skip
    assert [e.kind for e in await store.events(run_id)] == ["run.queued"]
    assert await store.run("none") is None


async def test_a_firing_happens_once(open_another: Open) -> None:
    stores = [await open_another() for _ in range(4)]
    made = await asyncio.gather(
        *(s.create_run(NewRun(f"f{n}", "p", 1, ["a"], scheduled_us=1000), 1) for n, s in enumerate(stores))
    )
    assert sorted(made) == [False, False, False, True]
    assert len(await stores[0].runs("p")) == 1
    assert await stores[0].create_run(NewRun("next", "p", 1, ["a"], scheduled_us=2000), 1)
    assert await stores[0].create_run(NewRun("other", "q", 1, ["a"], scheduled_us=1000), 1)


async def test_one_owner_at_a_time(open_another: Open) -> None:
    stores = [await open_another() for _ in range(4)]
    run_id = await queued(stores[0])
    got = await asyncio.gather(*(s.claim(run_id, f"o{n}", MINUTE, 1) for n, s in enumerate(stores)))
    assert sum(claim is not None for claim in got) == 1


async def test_what_is_claimed_comes_back_when_its_lease_is_over(store: Store) -> None:
    run_id = await queued(store)
    assert await waiting(store, 1, 10) == [run_id]
    old = await claimed(store, run_id, "old", until=100)
    assert await waiting(store, 100, 10) == []
    assert await store.claim(run_id, "new", 300, 100) is None
    assert await waiting(store, 101, 10) == [run_id]
    new = await claimed(store, run_id, "new", now=101, until=300)
    with pytest.raises(Fenced):
        await store.commit(old, [RunMoved(R.QUEUED, R.RUNNING)], 102)
    await store.commit(new, [RunMoved(R.QUEUED, R.RUNNING)], 102)
    assert (await store.run(run_id)).status is R.RUNNING  # type: ignore[union-attr]


async def test_beats_renew_leases_and_say_what_is_to_be_cancelled(store: Store) -> None:
    mine, other, cancelled = await queued(store), await queued(store), await queued(store)
    for run_id, owner in ((mine, "me"), (other, "other"), (cancelled, "me")):
        await claimed(store, run_id, owner, until=100)
    assert await store.cancel(cancelled, 50)
    assert await store.beat("me", 500) == {mine: False, cancelled: True}
    assert await waiting(store, 400, 10) == [other]


async def test_beats_tell_how_far_attempts_are(store: Store) -> None:
    claim = await claimed(store, await queued(store))
    await started(store, claim)
    await store.beat("me", MINUTE, [Progress(claim.run_id, "a", 1, 10, 200, "so far\n")])
    (attempt,) = await store.attempts(claim.run_id)
    assert (attempt.rows, attempt.bytes, attempt.log) == (10, 200, "so far\n")


async def test_a_released_run_is_free_at_once(store: Store) -> None:
    run_id = await queued(store)
    claim = await claimed(store, run_id)
    await store.release(claim)
    assert await waiting(store, 2, 10) == [run_id]
    other = await claimed(store, run_id, "other", now=2)
    await store.release(claim)  # not its own any more
    assert await waiting(store, 3, 10) == []
    await store.commit(other, [RunMoved(R.QUEUED, R.RUNNING)], 3)


async def test_a_commit_is_whole_or_nothing(store: Store) -> None:
    claim = await claimed(store, await queued(store))
    await started(store, claim)
    a, b = await store.tasks(claim.run_id)
    wrong = [
        TaskMoved(T.RUNNING, replace(a, status=T.SUCCESS)),
        TaskMoved(T.RUNNING, replace(b, status=T.SUCCESS)),  # it is pending
    ]
    with pytest.raises(Fenced):
        await store.commit(claim, wrong, 9)
    assert [t.status for t in await store.tasks(claim.run_id)] == [T.RUNNING, T.PENDING]
    assert [e.kind for e in await store.events(claim.run_id)] == ["run.queued", "task.running"]


async def test_a_commit_made_twice_is_made_once(store: Store) -> None:
    """The answer was lost: who asks again with the same claim hears that it was made."""
    claim = await claimed(store, await queued(store))
    again = replace(claim)
    await store.commit(claim, [RunMoved(R.QUEUED, R.RUNNING)], 2)
    await store.commit(again, [RunMoved(R.QUEUED, R.RUNNING)], 2)
    assert again == claim
    assert [e.kind for e in await store.events(claim.run_id)] == ["run.queued", "run.running"]


@pytest.mark.parametrize(("before", "after"), [(T.PENDING, T.FAILED), (T.SUCCESS, T.RUNNING)])
async def test_illegal_moves_are_refused(store: Store, before: TaskStatus, after: TaskStatus) -> None:
    claim = await claimed(store, await queued(store))
    task = (await store.tasks(claim.run_id))[0]
    with pytest.raises(Permanent, match="can't go from"):
        await store.commit(claim, [TaskMoved(before, replace(task, status=after))], 2)


async def test_an_attempt_keeps_what_it_did(store: Store) -> None:
    claim = await claimed(store, await queued(store))
    await started(store, claim, now=5)
    task = (await store.tasks(claim.run_id))[0]
    files = {"a": {"type": "file", "file_path": "x.csv"}}
    ended = AttemptRecord("a", 1, A.SUCCESS, 0, 8, 100, 2048, "", "read x\n")
    done = replace(task, status=T.SUCCESS, ended_us=8, rows=100, bytes=2048, datasets=files)
    await store.commit(claim, [AttemptMoved(A.RUNNING, ended), TaskMoved(T.RUNNING, done)], 8)
    assert await store.attempts(claim.run_id, "a") == [replace(ended, started_us=5)]
    assert (await store.tasks(claim.run_id))[0] == done
    (last,) = await store.events(claim.run_id, (await store.events(claim.run_id))[-2].event_id)
    assert (last.kind, last.task_id, last.data["rows"], last.data["datasets"]) == (
        "task.success", "a", 100, files,
    )  # fmt: skip


async def test_a_run_that_ended_is_nobodys_and_can_be_opened_again(store: Store) -> None:
    claim = await claimed(store, await queued(store))
    await started(store, claim)
    a, b = await store.tasks(claim.run_id)
    end = [
        RunMoved(R.QUEUED, R.RUNNING),
        TaskMoved(T.RUNNING, replace(a, status=T.FAILED, failures=1)),
        TaskMoved(T.PENDING, replace(b, status=T.SKIPPED, reason="a failed")),
        RunMoved(R.RUNNING, R.FAILED, "failed: a"),
    ]
    assert not await store.reopen(claim.run_id, ["a"], 8)
    await store.commit(claim, end, 9)
    assert not await store.cancel(claim.run_id, 10)
    assert await store.claim(claim.run_id, "x", MINUTE * 9, MINUTE * 8) is None
    assert await store.reopen(claim.run_id, ["a", "b"], 11)
    assert [(t.status, t.failures, t.attempts) for t in await store.tasks(claim.run_id)] == [
        (T.PENDING, 0, 1), (T.PENDING, 0, 0),
    ]  # fmt: skip
    again = await claimed(store, claim.run_id, "x", now=12)
    assert again.epoch == claim.epoch + 1


async def test_history_is_listed_newest_first(store: Store) -> None:
    ids = [await queued(store, now=n * 10) for n in range(5)]
    assert [r.run_id for r in await store.runs("p", limit=3)] == ids[:1:-1]
    assert [r.run_id for r in await store.runs(before_us=20)] == [ids[1], ids[0]]
    assert await store.runs("other") == []
    await claimed(store, ids[0])
    assert await store.runs(statuses=[R.SUCCESS, R.FAILED]) == []
    assert len(await store.runs(statuses=[R.QUEUED])) == 5


async def test_it_is_known_since_when_a_run_waits(store: Store) -> None:
    new, left = await queued(store, now=7), await queued(store, now=3)
    await claimed(store, left, until=100)
    assert await store.claimable(101, 10) == [Claimable(left, 100), Claimable(new, 7)]


async def test_urgent_runs_are_claimed_first(store: Store) -> None:
    slow = await queued(store, now=1, priority=-1)
    first, second = await queued(store, now=2), await queued(store, now=3)
    assert await waiting(store, 9, 10) == [first, second, slow]
    assert await waiting(store, 9, 1) == [first]


async def test_the_outbox_holds_events_until_they_are_published(store: Store) -> None:
    one, two = await queued(store), await queued(store)
    found = await store.unpublished(10)
    assert [(e.pipeline_id, e.run_id, e.kind) for e in found] == [("p", x, "run.queued") for x in (one, two)]
    assert len(await store.unpublished(1)) == 1
    await store.published([found[0].event_id], 5)
    assert [e.run_id for e in await store.unpublished(10)] == [two]
    assert len(await store.events(one)) == 1


async def test_the_mark_is_another_one_after_each_change_of_a_run(store: Store, open_another: Open) -> None:
    marks = [await store.mark()]
    run_id = await queued(store)
    marks.append(await store.mark())
    claim = await claimed(store, run_id)
    for change in (RunMoved(R.QUEUED, R.RUNNING), RunMoved(R.RUNNING, R.FAILED)):
        await store.commit(claim, [change], 2)
        marks.append(await store.mark())
    await store.reopen(run_id, [], 3)
    marks.append(await store.mark())
    assert len(set(marks)) == 5
    assert await (await open_another()).mark() == marks[-1]


async def test_the_marks_of_two_stores_differ() -> None:
    stores = [await open_store("memory:") for _ in range(2)]
    one, other = [await store.mark() for store in stores]
    for store in stores:
        await store.close()
    assert one != other


async def test_a_lease_has_one_holder(open_another: Open) -> None:
    stores = [await open_another() for _ in range(3)]
    got = await asyncio.gather(*(s.lease("leader", f"s{n}", 100, 1) for n, s in enumerate(stores)))
    assert sum(got) == 1
    winner = got.index(True)
    loser = (winner + 1) % 3
    assert await stores[winner].lease("leader", f"s{winner}", 200, 90)
    assert not await stores[loser].lease("leader", f"s{loser}", 300, 200)
    assert await stores[loser].lease("leader", f"s{loser}", 300, 201)
    assert not await stores[winner].lease("leader", f"s{winner}", 400, 202)


async def test_processes_open_a_new_store_at_once(url: str) -> None:
    stores = await asyncio.gather(*(open_store(url) for _ in range(4)))
    assert [len(await s.pipelines()) for s in stores] == [0, 0, 0, 0]
    for store in stores:
        await store.close()


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_a_store_of_a_newer_version_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await open_store(url)).close()
    monkeypatch.setattr("streamcore.metadata.store.STEPS", ())
    with pytest.raises(BadConfig, match="newer streamcore"):
        await open_store(url)


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("steps", range(1, len(STEPS)))
async def test_a_store_of_a_former_version_is_brought_up_to_date(url: str, steps: int) -> None:
    """Made by the first *steps* of its migrations, with a run in it: that stays, and all else is there."""
    database = DATABASES[url.partition(":")[0]](url)
    await database.transact([Statement("create table streamcore_migrations (number bigint primary key)")])
    for number, step in enumerate(STEPS[:steps], 1):
        made = [Statement(sql.replace("{serial}", database.serial)) for sql in step]
        note = Statement(f"insert into streamcore_migrations (number) values ({number})")
        await database.transact([*made, note])
    await database.transact(writing.created(NewRun("r", "p", 1, ["a"], scheduled_us=7), 5))
    await database.close()
    store = await open_store(url)
    assert [(one.run_id, one.scheduled_us, one.created_us) for one in await store.runs()] == [("r", 7, 5)]
    assert [one.kind for one in await store.unpublished(10)] == ["run.queued"]
    await store.register("p", "{}", 5)
    assert [one.pipeline_id for one in await store.scheduling.schedules()] == ["p"]
    assert await store.backfills.backfills() == []
    assert await store.notices.due(9, 9) == []
    await store.measurements.keep_baseline("users", "{}", 1)
    mark = await store.mark()
    await store.close()
    again = await open_store(url)
    assert await again.mark() == mark
    assert await again.measurements.baseline("users") == "{}"
    await again.close()


async def test_texts_of_all_kinds_come_back(store: Store) -> None:
    text = "quote ' \" \\ $1 ? é 漢 \U0001f600\n\t"
    run_id = await queued(store, parameters={"text": text})
    assert (await store.run(run_id)).parameters == {"text": text}  # type: ignore[union-attr]


async def test_an_unknown_kind_of_store_is_told() -> None:
    with pytest.raises(BadConfig, match="did you mean 'sqlite'"):
        await open_store("sqlit:///x.db")


async def test_totals_add_up_by_pipeline_and_state(store: Store) -> None:
    assert await store.totals() == []
    for rows in (10, 32):
        claim = await claimed(store, await queued(store, "a", "b"))
        await store.commit(claim, [RunMoved(R.QUEUED, R.RUNNING)], 2_000_000)
        for task_id in ("a", "b"):
            await started(store, claim, task_id)
            task = next(t for t in await store.tasks(claim.run_id) if t.task_id == task_id)
            done = replace(task, status=T.SUCCESS, rows=rows, bytes=1 << 40, ended_us=9)
            await store.commit(claim, [TaskMoved(T.RUNNING, done)], 9)
        await store.commit(claim, [RunMoved(R.RUNNING, R.SUCCESS)], 5_500_000 + rows)
    await queued(store)
    waiting, done = await store.totals()
    assert waiting == RunTotals("p", R.QUEUED, 1, 0.0, 0, 0, None)
    assert (done.status, done.runs, done.rows, done.bytes) == (R.SUCCESS, 2, 84, 1 << 42)
    assert done.seconds == pytest.approx(7.000042)
    assert done.last_ended_us == 5_500_032
