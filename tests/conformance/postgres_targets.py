"""Targets of the PostgreSQL sink for the conformance suite, read by plain asyncpg."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import asyncpg
import polars as pl

from streamcore.batch import PartitionId
from streamcore.sinks.postgres import Postgres
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.behind_proxy import ProxiedUrl

_numbers = itertools.count()
COLUMN_TEXT = "(id bigint primary key, name text check (name <> 'forbidden'), value double precision)"


class PostgresTarget:
    """A fresh schema with an awkward name and table."""

    def __init__(self, dsn: str, key: str | None = None) -> None:
        self._dsn = dsn
        self._schema = f'rows "{next(_numbers)}"; drop'
        self._table = "té'st.table"
        self.sink = Postgres(self._table, dsn, key=key, schema=self._schema)

    async def start(self) -> None:
        self._connection = await asyncpg.connect(self._dsn)
        schema = self._quoted(self._schema)
        await self._connection.execute(f"drop schema if exists {schema} cascade; create schema {schema}")
        await self._connection.execute(f"create table {schema}.{self._quoted(self._table)} {COLUMN_TEXT}")

    async def reconnect(self) -> None:
        """After the server was away."""
        self._connection.terminate()
        self._connection = await asyncpg.connect(self._dsn)

    @staticmethod
    def _quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    async def _fetch(self, table: str) -> list[asyncpg.Record]:
        return await self._connection.fetch(
            f"select * from {self._quoted(self._schema)}.{self._quoted(table)}"
        )

    async def rows(self) -> pl.DataFrame:
        return pl.DataFrame(
            [tuple(row) for row in await self._fetch(self._table)], schema=COLUMNS, orient="row"
        )

    async def positions(self) -> Mapping[PartitionId, int]:
        rows = await self._fetch("streamcore_positions")
        return {PartitionId(r["topic"], r["partition"], r["topic_id"]): r["next_offset"] for r in rows}

    async def close(self) -> None:
        await self._connection.execute(f"drop schema if exists {self._quoted(self._schema)} cascade")
        await self._connection.close()


class ProxiedTarget(ProxiedUrl, PostgresTarget):
    """The same behind a proxy."""
