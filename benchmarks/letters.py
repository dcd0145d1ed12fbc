"""What dead letters by a partition's owner cost: ``python -m benchmarks.letters``, on a Kafka of its own.

Seconds until a worker owns the letters of so many partitions, and of one letter of a row that a server
refused beside one of a row that the topology refused, which needs no owner.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from functools import partial

import polars as pl

from streamcore.batch import OFFSET, SUB, PartitionId, RecordChunk, Rejects
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.refusals import Refusals
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services import kafka

LETTERS = 50
SOURCES = [PartitionId("rows", number, "c/rows") for number in range(64)]


async def main(url: str) -> None:
    log = KafkaLog(KafkaConnection.parse(url))
    options = PipelineOptions("letters.dead-letters", "letters.redrive", owner="benchmark")
    refusals = Refusals(log, "letters", options, lambda topic: topic)
    await refusals.start(1)
    await refusals.own(SOURCES[:1])  # makes the topic of positions
    for count in (1, 4, 16, 64):
        wall, cpu = await measured(partial(refusals.own, SOURCES[:count]))
        print(
            f"owning {count:>2} partitions: {wall:.2f} s, {cpu / count * 1e3:.1f} ms of CPU each", flush=True
        )
    rows = pl.DataFrame([(0, 0)], schema={OFFSET: pl.Int64, SUB: pl.UInt32}, orient="row")
    chunk, rejects = RecordChunk(SOURCES[0], [0], [b"x"]), Rejects.of(rows, "sink", "code", "why")
    for what, as_owner in (("by the owner", True), ("by anyone", False)):
        await refusals.append(chunk, rejects, 0, as_owner=as_owner)  # connects

        async def append(as_owner: bool = as_owner) -> None:
            for _ in range(LETTERS):
                await refusals.append(chunk, rejects, 0, as_owner=as_owner)

        wall, cpu = await measured(append)
        print(f"a letter {what}: {wall / LETTERS * 1000:.1f} ms, {cpu / LETTERS * 1000:.1f} ms of CPU")
    await refusals.close()
    await log.close()


async def measured(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of this process."""
    before, began = _cpu(), time.perf_counter()
    await work()
    return time.perf_counter() - began, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    server = kafka.start()
    try:
        asyncio.run(main(server.url))
    finally:
        server.close()
