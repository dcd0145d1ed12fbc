"""Rows a second of Redis' sinks and source: ``python -m benchmarks.redis [ROWS]``, on a server of its own.

The rows of ``benchmarks.sinks``, a fifth of them unless said. The sinks are set beside redis-py's own
pipelines of the same commands, whose values are text before the clock starts; the source beside its pages of
XRANGE, which are Python objects. The server has a log that it syncs each second, Redis' default.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl
from redis import Redis
from redis.client import Pipeline

from batch_adapters.catalogue import open_source
from benchmarks.sinks import batches, into, measured, rows
from benchmarks.sources import read
from streamcore.contracts import Sink
from streamcore.sinks import RedisHash, RedisSortedSet, RedisStream
from streamcore.sinks.redis_columns import text_of
from tests.services import redis

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
NAME, TOGETHER, PAGE = "bench", 5_000, 10_000
Texts = dict[str, str]


async def sinks(url: str, client: Redis, frame: pl.DataFrame) -> None:
    """Each beside the pipeline of its commands."""
    texts: list[Texts] = frame.select(text_of(n, t) for n, t in frame.schema.items()).to_dicts()
    parts = batches(frame)

    async def ours(make: Callable[[], Sink]) -> None:
        client.flushall()
        await into(make, parts, frame.schema)()

    async def bare(add: Callable[[Pipeline, Texts], object]) -> None:
        client.flushall()
        for start in range(0, ROWS, TOGETHER):
            with client.pipeline(transaction=False) as commands:
                for row in texts[start : start + TOGETHER]:
                    add(commands, row)
                commands.execute()

    for name, make, add in _kinds(url):
        with _server_cpu(client):
            base = await timed(f"redis-py, {name}", partial(bare, add))
        with _server_cpu(client):
            _share(await timed(f"sink, {name}", partial(ours, make)), base, "the pipeline")


@contextlib.contextmanager
def _server_cpu(client: Redis) -> Iterator[None]:
    """Print what three runs take of it."""
    before = client.info("cpu")
    yield
    used = sum(client.info("cpu")[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    print(f"{'':42} {used / 3 / ROWS * 1e6:12.2f} us CPU/row of the server, emptying it too")


def _kinds(url: str) -> Sequence[tuple[str, Callable[[], Sink], Callable[[Pipeline, Texts], object]]]:
    return [
        ("hashes", lambda: RedisHash("h:{id}", url), lambda c, row: c.hset(f"h:{row['id']}", mapping=row)),
        (
            "sorted set",
            lambda: RedisSortedSet(NAME, "id", "amount", url),
            lambda c, row: c.zadd(NAME, {row["id"]: row["amount"]}),
        ),
        ("stream", lambda: RedisStream(NAME, url), lambda c, row: c.xadd(NAME, dict(row))),
    ]


async def source(url: str, client: Redis, names: Sequence[str]) -> None:
    """Of the stream that the sink has written."""

    async def bare() -> None:
        assert sum(map(len, _pages(client))) == ROWS

    async def ours(parts: int) -> None:
        splits = open_source(f"{url}?stream={NAME}&fields={','.join(names)}").splits(parts)
        with ThreadPoolExecutor(parts) as threads:
            loop = asyncio.get_running_loop()
            found = await asyncio.gather(*(loop.run_in_executor(threads, read, split) for split in splits))
        assert sum(found) == ROWS

    base = await timed("redis-py, XRANGE", bare)
    for count in (1, 2):
        _share(await timed(f"source, {count} ranges", partial(ours, count)), base, "XRANGE")


def _pages(client: Redis) -> Iterator[list[tuple[bytes, dict[bytes, bytes]]]]:
    first = "-"
    while page := client.xrange(NAME, first, "+", PAGE):
        yield page
        first = f"({page[-1][0].decode()}"


timed = partial(measured, rows=ROWS)


def _share(rate: float, base: float, of: str) -> None:
    print(f"{'':42} {rate / base:12.0%} of {of}")


async def main() -> None:
    """All of it, on a server that is gone afterwards."""
    frame = rows()[:ROWS]
    with contextlib.closing(redis.start()) as server, Redis.from_url(server.url) as client:
        client.config_set("appendfsync", "everysec")
        await sinks(server.url, client, frame)
        await source(server.url, client, frame.columns)


if __name__ == "__main__":
    asyncio.run(main())
