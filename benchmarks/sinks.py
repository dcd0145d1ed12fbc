"""Rows a second and CPU of sinks: ``python -m benchmarks.sinks [POSTGRES_URL]``; else on a server of its own.

Five columns (bigint, text, double, timestamp, boolean), batches of 20,000 rows. PostgreSQL is set
beside asyncpg's own ``copy_records_to_table`` of the same rows, which are Python tuples before its
clock starts, as a program without columns would hold them, and beside the same with making them.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import numpy as np
import polars as pl

from benchmarks.on_postgres import run
from streamcore.batch import Batch, FrameChunk, PartitionId, Range, Rejects, hide
from streamcore.contracts import FlushReason, Log, Sink, SinkContext
from streamcore.sinks import Csv, JsonLines, Parquet, Postgres

ROWS, BATCH = 1_000_000, 20_000
SOURCE = PartitionId("bench", 0, "bench/1")
TABLE = "streamcore_bench"


def rows() -> pl.DataFrame:
    start, number = datetime(2026, 1, 1), np.arange(ROWS)
    return pl.DataFrame(
        {
            "id": number,
            "user": [f"user-{i % 10_000}" for i in range(ROWS)],
            "amount": np.random.default_rng(1).random(ROWS) * 1000,
            "at": pl.datetime_range(start, start + timedelta(seconds=ROWS - 1), "1s", eager=True),
            "paid": number % 2 == 0,
        }
    )


def batches(frame: pl.DataFrame) -> list[Batch]:
    hidden, found = hide(frame, np.arange(frame.height, dtype=np.int64)), []
    for start in range(0, frame.height, BATCH):
        part = hidden[start : start + BATCH]
        end = start + part.height
        chunk = FrameChunk(SOURCE, np.arange(start, end), part, first=start, end=end)
        found.append(Batch(part, {SOURCE: Range(start, end)}, chunk))
    return found


def context(sink: Sink, columns: pl.Schema) -> SinkContext:
    async def refuse(batch: Batch, rejects: Rejects) -> None:
        raise AssertionError("no row is bad")

    return SinkContext(
        "bench",
        sink.name,
        columns,
        (),
        None,
        time.time,
        "bench",
        refuse,
        64 * 2**20,
        lambda _: None,
        cast(Log, None),
    )


async def measured(
    name: str, work: Callable[[], Awaitable[None]], best_of: int = 3, rows: int = ROWS
) -> float:
    """Print the best of some runs over so many *rows*; rows a second."""
    figures = []
    for _ in range(best_of):
        wall, cpu = time.perf_counter(), _cpu()
        await work()
        figures.append((rows / (time.perf_counter() - wall), (_cpu() - cpu) / rows * 1e6))
    rate, cpu = max(figures)
    print(f"{name:42} {rate:12,.0f} rows/s {cpu:8.3f} us CPU/row")
    return rate


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def into(make: Callable[[], Sink], parts: list[Batch], columns: pl.Schema) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        sink = make()
        writer = sink.writer(context(sink, columns))
        await writer.start()
        await writer.open({SOURCE: 0})
        for batch in parts:
            await writer.write(batch)
        assert await writer.flush(FlushReason.END) == {SOURCE: parts[-1].range.end}
        await writer.close()

    return work


async def main(url: str) -> None:
    frame = rows()
    parts, columns = batches(frame), frame.schema
    with tempfile.TemporaryDirectory() as folder:
        for kind in (Parquet, Csv, JsonLines):
            fresh = (f"{folder}/{kind.__name__}{i}" for i in range(99))
            await measured(kind.__name__, into(partial(_fresh, kind, fresh), parts, columns))
    await against_copy(url, frame, parts)


def _fresh(kind: type[Parquet | Csv | JsonLines], folders: Iterator[str]) -> Sink:
    return kind(next(folders))


async def against_copy(url: str, frame: pl.DataFrame, parts: list[Batch]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    names, tuples = frame.columns, frame.rows()

    async def empty(key: str = "") -> None:
        for table in (TABLE, "streamcore_positions"):
            await connection.execute(f"drop table if exists {table}")
        await connection.execute(
            f'create table {TABLE} (id bigint {key}, "user" text, amount float8, at timestamp, paid boolean)'
        )

    async def bare() -> None:
        await connection.execute(f"truncate {TABLE}")
        await connection.copy_records_to_table(TABLE, records=tuples, columns=names)

    async def bare_with_tuples() -> None:
        await connection.execute(f"truncate {TABLE}")
        await connection.copy_records_to_table(TABLE, records=frame.rows(), columns=names)

    await empty()
    copy = await measured("asyncpg copy_records_to_table", bare)
    await measured("asyncpg copy_records_to_table, frame.rows()", bare_with_tuples)
    for name, make, key in (
        ("Postgres, append", lambda: Postgres(TABLE, url), ""),
        ("Postgres, append, with a primary key", lambda: Postgres(TABLE, url), "primary key"),
        ("Postgres, upsert, all new", lambda: Postgres(TABLE, url, key="id"), "primary key"),
    ):
        rates = []
        for _ in range(3):
            await empty(key)
            rates.append(await measured(name, into(make, parts, frame.schema), best_of=1))
        print(f"{'':42} {max(rates) / copy:12.0%} of the bare COPY")
        with contextlib.suppress(IndexError):
            assert (await connection.fetch(f"select count(*) from {TABLE}"))[0][0] == ROWS
    await empty()
    await connection.execute(f"drop table {TABLE}")
    await connection.close()


if __name__ == "__main__":
    run(main)
