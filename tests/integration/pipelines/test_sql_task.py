"""SQL tasks: an attempt after one whose COMMIT was made does nothing; one that is stopped leaves nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.pipelines.kinds.contract import TaskContext
from streamcore.pipelines.kinds.sql import SqlOptions, run
from streamcore.systems import postgres, sqlite


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/x.db"
    uri: str = request.getfixturevalue("postgres").fresh_database()
    return uri


async def rows(uri: str, sql: str) -> list[tuple[object, ...]]:
    if uri.startswith("sqlite"):
        lite = await sqlite.connect(sqlite.path_of(uri))
        found = await lite.rows(sql)
        await lite.close()
        return found
    session = await postgres.connect(postgres.address(uri), "test")
    found = await session.rows(sql)
    await session.close()
    return found


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


async def test_an_unknown_database_is_told() -> None:
    with pytest.raises(BadConfig, match="no SQL tasks for this database, got 'oracle'"):
        await run(options("oracle://x/y", "select 1"), attempt(1))


def test_the_address_is_a_secret() -> None:
    assert "hunter2" not in repr(options("postgresql://u:hunter2@h/d", "select 1"))
