"""SQL tasks: an attempt after one whose COMMIT was made does nothing; one that is stopped leaves nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.pipelines.kinds import sql as sql_tasks
from streamcore.pipelines.kinds.contract import TaskContext
from streamcore.pipelines.kinds.sql import SqlOptions, SqlTarget, run
from streamcore.systems import postgres, sqlite
from streamcore.systems.sql import Locked
from tests.services.databases import empty_database


class _DeadError(Exception):
    """Ends a session's transaction without a COMMIT."""


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return empty_database(request.param, request, tmp_path)


async def _session(uri: str) -> SqlTarget:
    if uri.startswith("sqlite"):
        return await sqlite.connect(sqlite.path_of(uri))
    return await postgres.connect(postgres.address(uri), "test")


async def rows(uri: str, sql: str) -> list[tuple[object, ...]]:
    session = await _session(uri)
    found = await session.rows(sql)
    await session.close()
    return list(found)


def options(uri: str, *sql: str, **more: object) -> SqlOptions:
    return SqlOptions.model_validate({"connection_string": uri, "sql": list(sql), **more})


def attempt(number: int, task_id: str = "t") -> TaskContext:
    return TaskContext("p", "run", task_id, number)


async def test_an_effect_is_made_once(uri: str) -> None:
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    statements = options(uri, "insert into t values (1), (2)", "update t set a = a + 1")
    first = await run(statements, attempt(1))
    again = await run(statements, attempt(2))
    assert (first.rows, again.message) == (4, "it was made by an attempt before")
    assert await rows(uri, "select a from t order by a") == [(2,), (3,)]
    await run(statements, attempt(1, "another task"))
    assert len(await rows(uri, "select a from t")) == 4


@pytest.mark.parametrize("uri", ["postgres"], indirect=True)
async def test_first_attempts_at_once_make_the_table_of_effects_together(uri: str) -> None:
    tasks = [f"t{number}" for number in range(8)]
    await asyncio.gather(*(run(options(uri, "select 1"), attempt(1, task_id)) for task_id in tasks))
    assert len(await rows(uri, "select 1 from streamcore_effects")) == len(tasks)


async def test_a_failure_takes_all_back_and_is_no_effect(uri: str) -> None:
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    with pytest.raises(StreamcoreError, match="nowhere"):
        await run(options(uri, "insert into t values (1)", "insert into nowhere values (1)"), attempt(1))
    assert await rows(uri, "select a from t") == []
    await run(options(uri, "insert into t values (7)"), attempt(2))
    assert await rows(uri, "select a from t") == [(7,)]


async def test_outside_of_a_transaction_each_statement_is_on_its_own(uri: str) -> None:
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    alone = options(uri, "insert into t values (1)", "vacuum", transaction=False)
    await run(alone, attempt(1))
    await run(alone, attempt(2))
    assert len(await rows(uri, "select a from t")) == 2


async def test_a_statement_that_is_stopped_leaves_nothing(uri: str) -> None:
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    endless = "insert into t with recursive n(i) as (select 1 union all select i + 1 from n) select 1 from n"
    began = time.monotonic()
    task = asyncio.ensure_future(run(options(uri, "insert into t values (1)", endless), attempt(1)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 30
    deadline = time.monotonic() + 30
    while True:
        try:
            assert await rows(uri, "select a from t") == []
            return
        except StreamcoreError:
            assert time.monotonic() < deadline, "its lock is still held"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("commits", [False, True])
async def test_a_note_that_another_session_holds_is_waited_for(
    uri: str, commits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead attempt's session may live on in the server, and may even come to its COMMIT."""
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    monkeypatch.setitem(postgres.SETTINGS, "lock_timeout", "100ms")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    other = await _session(uri)
    insert = options(uri, "insert into t values (1)")
    lines: list[str] = []
    context = TaskContext("p", "run", "t", 2, log=lines.append)
    with suppress(_DeadError):
        async with other.transaction():
            await other.run("insert into streamcore_effects values ('run/t', 'now')")
            heir = asyncio.ensure_future(run(insert, context))
            while not lines:
                assert not heir.done(), heir
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # longer than it waits for a lock
            if not commits:
                raise _DeadError
    await other.close()
    found = await asyncio.wait_for(heir, 60)
    assert (found.message, found.rows) == (("it was made by an attempt before", None) if commits else ("", 1))
    assert len(lines) == 1 + (not commits), "that it waits is told once"


async def test_a_note_that_stays_locked_is_an_error(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note is waited for as long as a statement may take."""
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    monkeypatch.setitem(postgres.SETTINGS, "lock_timeout", "100ms")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    clock = SimpleNamespace(monotonic=count(0, 4000).__next__)  # each look at it comes over an hour later
    monkeypatch.setattr(sql_tasks, "time", clock)
    other = await _session(uri)
    async with other.transaction():
        await other.run("insert into streamcore_effects values ('run/t', 'now')")
        with pytest.raises(Locked):
            await asyncio.wait_for(run(options(uri, "insert into t values (1)"), attempt(2)), 60)
    await other.close()


@pytest.mark.parametrize("uri", ["postgres"], indirect=True)
async def test_what_a_killed_attempt_began_ends(uri: str) -> None:
    """The server sees that nobody waits for the statement, and another attempt follows."""
    await run(options(uri, "create table t (a int)"), attempt(1, "make"))
    command = [sys.executable, "-m", "tests.integration.pipelines.sql_attempt", uri, "select pg_sleep(3600)"]
    with subprocess.Popen(command) as killed:
        while not await rows(uri, "select 1 from pg_stat_activity where query = 'select pg_sleep(3600)'"):
            assert killed.poll() is None
            await asyncio.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    found = await asyncio.wait_for(run(options(uri, "insert into t values (1)"), attempt(2)), 60)
    assert found.rows == 1


async def test_an_unknown_database_is_told() -> None:
    with pytest.raises(BadConfig, match="no SQL tasks for this database, got 'oracle'"):
        await run(options("oracle://x/y", "select 1"), attempt(1))


def test_the_address_is_a_secret() -> None:
    assert "hunter2" not in repr(options("postgresql://u:hunter2@h/d", "select 1"))
