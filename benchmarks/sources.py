"""Rows a second of sources: ``python -m benchmarks.sources [POSTGRES_URL]``; else on a server of its own.

A table of five columns (bigint, text, timestamptz, numeric, boolean), one range of its key and two at once,
beside a bare binary ``COPY … TO STDOUT`` by asyncpg whose bytes are thrown away, and asyncpg's rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from batch_adapters.catalogue import open_source
from benchmarks.on_postgres import run
from streamcore.batch import PartitionId
from streamcore.contracts import Split

ROWS, CHUNK = 1_000_000, 4 << 20
SOURCE = PartitionId("bench", 0, "bench/1")
TABLE = "streamcore_bench_rows"
FILL = f"""
drop table if exists {TABLE};
create table {TABLE} (id bigint primary key, name text, at timestamptz, amount numeric(12, 2), paid bool);
insert into {TABLE} select i, 'user-' || i % 10000, now(), i / 100.0, i % 2 = 0
  from generate_series(1, {ROWS}) i;
analyze {TABLE};
"""


def read(split: Split) -> int:
    """Read all of *split*; its rows."""
    reader, rows = split.open(SOURCE, 0, split.bookmark), 0
    while (chunk := reader.read(CHUNK)) is not None:
        rows += len(chunk)
    reader.close()
    return rows


async def measured(
    name: str, work: Callable[[], Awaitable[object]], base: float = 0.0, best_of: int = 3
) -> float:
    """Print the best of some runs; rows a second."""
    seconds = []
    for _ in range(best_of):
        began = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - began)
    rate = ROWS / min(seconds)
    share = f"{rate / base:8.0%} of COPY" if base else ""
    print(f"{name:42} {rate:12,.0f} rows/s {share}")
    return rate


async def main(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(FILL)
    uri = f"{url}{'&' if '?' in url else '?'}table={TABLE}"

    async def thrown_away(data: bytes) -> None:
        return None

    async def ours(parts: int) -> None:
        splits = open_source(uri).splits(parts)
        with ThreadPoolExecutor(parts) as threads:
            loop = asyncio.get_running_loop()
            rows = await asyncio.gather(*(loop.run_in_executor(threads, read, split) for split in splits))
        assert sum(rows) == ROWS

    copy = await measured(
        "COPY TO STDOUT, binary",
        lambda: connection.copy_from_table(TABLE, output=thrown_away, format="binary"),
    )
    await measured("source, one range", lambda: ours(1), copy)
    await measured("source, two ranges", lambda: ours(2), copy)
    await measured("asyncpg's rows", lambda: connection.fetch(f"select * from {TABLE}"), copy, best_of=1)
    await connection.execute(f"drop table {TABLE}")
    await connection.close()


if __name__ == "__main__":
    run(main)
