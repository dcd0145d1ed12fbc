"""Targets of the SQLite sink for the conformance suite, read by Python's own module."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import polars as pl

from streamcore.batch import PartitionId
from streamcore.sinks.sqlite import SQLite
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.sink_targets import MEMORY

TABLE = 'té\'st "table"'


class SqliteTarget:
    """A fresh file with an awkward table, on a disk where syncing costs nothing."""

    def __init__(self, key: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="streamcore-sqlite-", dir=MEMORY))
        self.sink = SQLite(TABLE, self.folder / "rows?#.db", key=key)

    async def start(self) -> None:
        self.execute(
            f"create table {quoted(TABLE)} "
            "(id integer primary key, name text check (name <> 'forbidden'), value real)"
        )

    def execute(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.folder / "rows?#.db")) as connection, connection:
            return connection.execute(sql).fetchall()

    async def rows(self) -> pl.DataFrame:
        return pl.DataFrame(self.execute(f"select * from {quoted(TABLE)}"), schema=COLUMNS, orient="row")

    async def positions(self) -> Mapping[PartitionId, int]:
        rows = self.execute("select topic, partition, topic_id, next_offset from streamcore_positions")
        return {PartitionId(*row[:3]): row[3] for row in rows}  # type: ignore[misc, arg-type]

    async def close(self) -> None:
        shutil.rmtree(self.folder)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
