"""Targets of the MySQL sink for the conformance suite, read by plain asyncmy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import polars as pl

from streamcore.batch import PartitionId
from streamcore.sinks.mysql import MySQL
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.behind_proxy import ProxiedUrl
from tests.services.mariadb import fetch

_numbers = itertools.count()
COLUMN_TEXT = "(id bigint primary key, name longtext check (name <> 'forbidden'), value double)"


class MysqlTarget:
    """A fresh schema with an awkward name and table."""

    def __init__(self, dsn: str, key: str | None = None) -> None:
        self._dsn = dsn
        self._schema = f"rows `{next(_numbers)}`? drop"
        self._table = "té'st%s.table"
        self.sink = MySQL(self._table, dsn, key=key, schema=self._schema)

    async def start(self) -> None:
        schema = quoted(self._schema)
        await fetch(
            self._dsn,
            f"drop database if exists {schema}",
            f"create database {schema}",
            f"create table {schema}.{quoted(self._table)} {COLUMN_TEXT}",
        )

    async def reconnect(self) -> None:
        """After the server was away: each look at it is a connection of its own."""

    async def rows(self) -> pl.DataFrame:
        rows = await fetch(self._dsn, f"select * from {quoted(self._schema)}.{quoted(self._table)}")
        return pl.DataFrame(rows, schema=COLUMNS, orient="row")

    async def positions(self) -> Mapping[PartitionId, int]:
        rows = await fetch(
            self._dsn,
            "select topic, `partition`, topic_id, next_offset "
            f"from {quoted(self._schema)}.streamcore_positions",
        )
        return {PartitionId(*row[:3]): row[3] for row in rows}  # type: ignore[misc, arg-type]

    async def close(self) -> None:
        await fetch(self._dsn, f"drop database if exists {quoted(self._schema)}")


class ProxiedMysqlTarget(ProxiedUrl, MysqlTarget):
    """The same behind a proxy."""


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
