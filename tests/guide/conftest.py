"""Each block runs in a folder of its own; a database with one table is what several of them read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from tests.services.postgres import PostgresServer

Users: TypeAlias = Callable[[int], Awaitable[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def users(postgres: PostgresServer) -> Users:
    """Makes a database with one table, of so many users; gives its address."""

    async def make(count: int) -> str:
        dsn = postgres.fresh_database()
        connection = await asyncpg.connect(dsn)
        await connection.execute("create table users (id bigint primary key, name text)")
        await connection.execute(
            f"insert into users select n, 'user ' || n from generate_series(1, {count}) n"
        )
        await connection.close()
        return dsn

    return make
