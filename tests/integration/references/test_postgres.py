"""Lookups in a real PostgreSQL: rows by key, what it says when something is wrong, and one that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import polars as pl
import pytest

import streamcore as sc
from streamcore.errors import Permanent, StreamcoreError, Transient
from tests.integration.references.jobs import CLICK, ask, check_rows_wait, looked_up
from tests.services.postgres import PostgresServer

COLUMNS = {"id": "int64", "code": "string", "name": "string", "since": "date", "rate": "float64"}


TABLE = """
create table "us""ers" (id int not null, code varchar(9), name text, since date, rate float8, n numeric);
create unique index on "us""ers" (id, code);
insert into "us""ers"
select i, 'c' || i % 3, 'n' || i, date '2026-01-01' + i % 300, i / 2.0, i from generate_series(0, 9999, 2) i
"""
END_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'streamcore lookup%'
"""


async def prepared(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLE)
    await connection.close()


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> str:
    dsn = postgres.fresh_database()
    asyncio.run(prepared(dsn))
    return dsn


def test_rows_come_by_one_and_by_several_columns(dsn: str) -> None:
    whole = sc.references.Postgres('us"ers', key=("id", "code"), columns=COLUMNS, url=dsn)
    found = asyncio.run(ask(whole, pl.DataFrame({"id": [4, 4, 5, 10], "code": ["c1", "c2", "c2", "c1"]})))
    assert found.schema == whole.types
    assert [(row[0], row[1], row[2], row[4]) for row in found.sort("id").rows()] == [
        (4, "c1", "n4", 2.0),
        (10, "c1", "n10", 5.0),
    ]
    by_id = sc.references.Postgres('us"ers', key="id", columns={"id": "int64", "name": "string"}, url=dsn)
    many = asyncio.run(ask(by_id, pl.DataFrame({"id": range(20_000)})))
    assert sorted(many["id"]) == list(range(0, 10_000, 2))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"table": "nobody"}, 'relation "nobody" does not exist'),
        ({"columns": {"id": "int64", "nick": "string"}}, "nick"),
        ({"columns": {"id": "int64", "name": "int64"}}, "not of the types declared"),
        ({"key": "code", "columns": {"code": "string", "id": "int64"}}, "several rows of a key, got 'code'"),
        ({"key": "name", "columns": {"name": "int64"}}, "operator does not exist"),
    ],
)
def test_what_is_wrong_there_stops_with_the_reason(dsn: str, given: dict[str, object], says: str) -> None:
    declared = {"table": 'us"ers', "key": "id", "columns": COLUMNS, "url": dsn, **given}
    reference = sc.references.Postgres(**declared)  # type: ignore[arg-type]
    keys = pl.DataFrame({name: ["c1", "c2"] if name == "code" else [2, 4] for name in reference.keys})
    with pytest.raises(Permanent) as refused:
        asyncio.run(ask(reference, keys))
    assert says in str(refused.value)
    assert "pgpass" not in str(refused.value)


def test_a_connection_that_was_lost_is_made_again(dsn: str) -> None:
    reference = sc.references.Postgres('us"ers', key="id", columns=COLUMNS, url=dsn)

    async def run() -> pl.DataFrame:
        reader = reference.reader(lambda: 0.0)
        await reader.start()
        other = await asyncpg.connect(dsn)
        await other.execute(END_OTHERS)
        await other.close()
        with pytest.raises(Transient):
            await reader.rows(pl.DataFrame({"id": [2]}))
        found = await reader.rows(pl.DataFrame({"id": [2]}))
        await reader.close()
        return found

    assert asyncio.run(run())["name"].to_list() == ["n2"]


def test_rows_wait_while_the_server_is_down(own_postgres: PostgresServer, tmp_path: Path) -> None:
    dsn = own_postgres.fresh_database()
    asyncio.run(prepared(dsn))
    named = {"id": "int64", "name": "string"}
    users = sc.references.Postgres('us"ers', key="id", columns=named, url=dsn, cache_for="0s")
    check_rows_wait(users, own_postgres, tmp_path)


def test_a_job_does_not_start_with_a_reference_that_it_can_not_use(dsn: str, tmp_path: Path) -> None:
    nobody = sc.references.Postgres("nobody", key="id", columns={"id": "int64"}, url=dsn)
    with pytest.raises(StreamcoreError, match="nobody"):
        looked_up(nobody, CLICK, tmp_path)
