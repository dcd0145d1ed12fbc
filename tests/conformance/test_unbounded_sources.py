"""Unbounded sources keep their laws, on the real servers."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from streamcore.contracts.unbounded import UnboundedSource
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import UnboundedSourceConformance
from tests.services.postgres import PostgresServer

_numbers = itertools.count()


class TestSqlitePolling(UnboundedSourceConformance):
    """By a number that grows with each change."""

    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.path = tmp_path / "rows.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("create table users (id integer primary key, name text, version integer)")
            connection.commit()

    def write(self, ids: Sequence[int]) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(
                "insert into users "
                "select ?1, ?2, coalesce((select max(version) from users), 0) + 1 where true "
                "on conflict (id) do update set version = excluded.version",
                [(i, f"name {i}") for i in ids],
            )
            connection.commit()

    def source(self) -> UnboundedSource:
        return open_unbounded(f"sqlite:///{self.path}?table=users&poll=version&settle=0s&every=10ms")


class TestPostgresPolling(UnboundedSourceConformance):
    """By the clock of the database, which shows microseconds."""

    @pytest.fixture(autouse=True)
    def table(self, postgres: PostgresServer) -> None:
        self.dsn, self.name = postgres.dsn, f"polled_{next(_numbers)}"
        self.execute(
            f"create table {self.name} (id bigint primary key, name text, updated_at timestamptz not null)"
        )

    def execute(self, statement: str, rows: Sequence[Sequence[object]] = ()) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            if rows:
                await connection.executemany(statement, rows)
            else:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def write(self, ids: Sequence[int]) -> None:
        self.execute(
            f"insert into {self.name} values ($1, $2, clock_timestamp()) "
            "on conflict (id) do update set updated_at = excluded.updated_at",
            [(i, f"name {i}") for i in ids],
        )

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.dsn}&table={self.name}&poll=updated_at&settle=0s&every=10ms")
