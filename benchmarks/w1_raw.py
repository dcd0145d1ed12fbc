"""W1 by hand: what the chunk transport, polars, the encoder and the log cost, without the runtime.

``python -m benchmarks.w1_raw kafka://127.0.0.1:9092 [--messages 1000000] [--partitions 4] [--fetch-mb 8]``

Seeds W1's topic, then reads it with a Faust agent: decode, drop age < 18, add
age_group by CASE, encode, send. Prints CPU microseconds a message of the process, the rate, the peak
memory, and the CPU of each part. ``--profile FILE`` writes a cProfile of the main thread.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import resource
import time
from collections import defaultdict
from collections.abc import AsyncIterable, Callable
from tempfile import mkdtemp
from typing import TypeVar
from uuid import uuid4

import faust
import polars as pl
import pyarrow as pa

from benchmarks.seeding import seed
from streamcore.batch import Chunk
from streamcore.contracts import Records
from streamcore.formats import FORMATS
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.chunks import ChunkSchema, Fetches
from streamcore.transport.kafka import faust_options
from streamcore.transport.kafka_log import KafkaLog

T = TypeVar("T")
KEEP = {"retention.ms": "-1"}
SCHEMA = pl.Schema(
    {"event_id": pl.Int64, "user_id": pl.Int64, "email": pl.String, "age": pl.Int64,
     "salary": pl.Float64, "action": pl.String, "ts": pl.Int64}
)  # fmt: skip
GROUP = pl.sql_expr("case when age < 30 then 'Young' when age < 50 then 'Middle' else 'Senior' end")


def decode(values: list[bytes]) -> pl.DataFrame:
    """The messages as columns."""
    return pl.read_ndjson(b"\n".join(values), schema=SCHEMA)


def steps(frame: pl.DataFrame) -> pl.DataFrame:
    """W1's filter and CASE."""
    return frame.filter(pl.col("age") >= 18).with_columns(GROUP.alias("age_group"))


class Parts:
    """CPU seconds of the main thread by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, part: str, work: Callable[..., T], *given: object) -> T:
        """What *work* returns for *given*."""
        before = time.thread_time()
        result = work(*given)
        self.seconds[part] += time.thread_time() - before
        return result


async def run(url: str, source: str, target: str, messages: int, fetch_mb: int, profile: str | None) -> None:
    """Read *messages* of *source*, write to *target*, print the figures."""
    connection = KafkaConnection.parse(url)
    log, parts, encode = KafkaLog(connection), Parts(), FORMATS["json"].encode
    app = faust.App(
        f"w1-{uuid4().hex[:8]}",
        **faust_options(connection),
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        store="memory://",
        stream_buffer_maxsize=4,
        datadir=mkdtemp(),
    )
    app.streamcore_fetches = Fetches(fetch_mb << 20)
    read = written = 0
    started = (0.0, 0.0)
    done, outcomes, profiler = asyncio.Event(), [], cProfile.Profile()

    @app.agent(app.topic(source, schema=ChunkSchema()))
    async def work(chunks: AsyncIterable[Chunk]) -> None:
        nonlocal read, written, started
        async for chunk in chunks:
            if not read:
                started = (time.time(), time.process_time())
                if profile:
                    profiler.enable()
            values = parts.timed("parse", chunk.values)
            frame = parts.timed("steps", steps, parts.timed("decode", decode, values))
            rows = parts.timed("encode", encode, frame)
            keys = frame["user_id"].cast(pl.String).cast(pl.Binary).to_arrow().cast(pa.binary())
            before = time.thread_time()
            outcomes.append(await log.append(target, Records(rows, frame["ts"].to_numpy(), keys)))
            parts.seconds["append"] += time.thread_time() - before
            read, written = read + len(chunk), written + frame.height
            if read >= messages:
                done.set()

    app.finalize()
    await app.start()
    await done.wait()
    await asyncio.gather(*outcomes)
    profiler.disable()
    wall, cpu = time.time() - started[0], time.process_time() - started[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates = f"{cpu / read * 1e6:.2f} us CPU/msg, {read / wall / 1e3:.0f} k msg/s"
    print(f"{read} in, {written} out, {rates}, {peak:.0f} MB peak")
    for part, seconds in sorted(parts.seconds.items(), key=lambda one: -one[1]):
        print(f"  {part:8} {seconds / read * 1e6:.3f} us/msg")
    if profile:
        profiler.dump_stats(profile)
    await app.stop()
    await log.close()


async def main() -> None:
    """Seed unless the source topic exists, then run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--fetch-mb", type=int, default=8)
    parser.add_argument("--profile")
    given = parser.parse_args()
    source = f"w1-in-{given.partitions}-{given.messages}"
    target = f"w1-out-{os.getpid()}"
    log = KafkaLog(KafkaConnection.parse(given.url))
    if not await log.bounds(source):
        await seed(log, source, given.messages, given.partitions)
    await log.create(target, 4, KEEP)
    await log.close()
    await run(given.url, source, target, given.messages, given.fetch_mb, given.profile)


if __name__ == "__main__":
    asyncio.run(main())
