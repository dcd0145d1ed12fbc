"""Rows a second of MySQL and SQLite: ``python -m benchmarks.tables``, on a MariaDB of its own.

Sinks are set beside the drivers' own bulk calls (``executemany`` in one transaction) of the same rows, which
are Python tuples before the clock starts; the source beside the driver's rows of the whole table.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from batch_adapters.catalogue import open_source
from benchmarks.sinks import ROWS, TABLE, batches, into, measured, rows
from benchmarks.sources import read
from streamcore.sinks import MySQL, SQLite
from streamcore.sinks.sqlite_columns import ColumnPair, TableColumn, created_type
from tests.services import mariadb

MARKS = ", ".join(["?"] * 5)


async def mysql(dsn: str, frame: pl.DataFrame) -> None:
    """The sink, then the source of what it wrote."""
    connection = await mariadb.connection(dsn)
    parts, tuples = batches(frame), frame.rows()
    await _read(connection, f"drop table if exists {TABLE}, streamcore_positions")

    async def bare() -> None:
        await _read(connection, f"truncate {TABLE}")
        async with connection.cursor() as cursor:
            await cursor.execute("begin")
            await cursor.executemany(f"insert into {TABLE} values (%s, %s, %s, %s, %s)", tuples)
            await cursor.execute("commit")

    async def sink(key: str | None) -> None:
        await _read(connection, f"drop table if exists {TABLE}, streamcore_positions")
        await into(lambda: MySQL(TABLE, dsn, key=key, create=True), parts, frame.schema)()

    await sink("id")
    rate = await measured("asyncmy, executemany", bare)
    for name, key in (("MySQL, append", None), ("MySQL, upsert, all new", "id")):
        _share(await measured(name, partial(sink, key)), rate)
    driver = await measured("asyncmy, all rows", lambda: _read(connection, f"select * from {TABLE}"))
    for count in (1, 2):
        _share(await measured(f"source, {count} ranges", partial(_source, dsn, count)), driver)


async def _read(connection: Any, sql: str) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        await cursor.fetchall()


async def _source(dsn: str, parts: int) -> None:
    splits = open_source(f"{dsn}?table={TABLE}").splits(parts)
    with ThreadPoolExecutor(parts) as threads:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(threads, read, split) for split in splits))
    assert sum(found) == ROWS


async def sqlite(folder: Path, frame: pl.DataFrame) -> None:
    """The sink beside ``executemany`` of values that are ready for SQLite."""
    pairs = [ColumnPair(TableColumn(n, created_type(n, t)), t) for n, t in frame.schema.items()]
    ready = frame.select(pair.value().alias(pair.table.name) for pair in pairs).rows()
    parts, fresh = batches(frame), (folder / f"{n}.db" for n in range(99))

    async def bare() -> None:
        with closing(sqlite3.connect(next(fresh))) as connection, connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute(f"create table {TABLE} (a integer, b text, c real, d text, e integer)")
            connection.executemany(f"insert into {TABLE} values ({MARKS})", ready)

    async def sink(key: str | None) -> None:
        await into(lambda: SQLite(TABLE, next(fresh), key=key, create=True), parts, frame.schema)()

    rate = await measured("sqlite3, executemany", bare)
    for name, key in (("SQLite, append", None), ("SQLite, upsert, all new", "id")):
        _share(await measured(name, partial(sink, key)), rate)


def _share(rate: float, base: float) -> None:
    print(f"{'':42} {rate / base:12.0%} of the driver")


async def main() -> None:
    """Both, on a server and files that are gone afterwards."""
    frame = rows()
    with contextlib.closing(mariadb.start()) as server, tempfile.TemporaryDirectory() as folder:
        await mysql(server.dsn, frame)
        await sqlite(Path(folder), frame)


if __name__ == "__main__":
    asyncio.run(main())
