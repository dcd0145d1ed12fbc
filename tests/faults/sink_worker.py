"""A process that delivers rows to a sink until the end: ``python -m tests.faults.sink_worker SPEC``.

SPEC is JSON: ``sink`` "files", "postgres", "mysql", "sqlite" or "redis", ``target``, ``rows``, ``cut``,
``owner``, and optionally ``stop_at``, a crash point at which the process stops itself (SIGSTOP). Exit codes
are the errors'.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import cast

import polars as pl

from streamcore.batch import Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason, Log, Sink, SinkContext
from streamcore.crashpoints import crash_point
from streamcore.errors import Fenced
from streamcore.sinks import MySQL, Parquet, Postgres, RedisStream, SQLite
from streamcore.testing.sinks import batches_of

SOURCE = PartitionId("orders", 0, "c/1")
FENCED_EXIT = 7


def frame_of(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(rows), "part": [f"p{i % 3}" for i in range(rows)]})


async def deliver(spec: dict[str, object]) -> None:
    frame = frame_of(int(cast(int, spec["rows"])))
    cut = int(cast(int, spec["cut"]))
    sink = _sink(str(spec["sink"]), str(spec["target"]), cut)
    writer = sink.writer(_context(sink, frame.schema, spec))
    await writer.start()
    start = (await writer.open({SOURCE: 0}))[SOURCE]
    print("open", start, flush=True)
    rest = frame[start:]
    for batch in batches_of(rest, range(cut, rest.height, cut), SOURCE, first=start):
        await writer.write(batch)
        await writer.flush(FlushReason.IDLE)
    await writer.flush(FlushReason.END)
    await writer.close()


def _sink(kind: str, target: str, cut: int) -> Sink:
    if kind == "files":
        return Parquet(target, partition_by="part", roll_rows=2 * cut, name="out")
    if kind == "redis":
        return RedisStream("orders", target)
    return {"postgres": Postgres, "mysql": MySQL, "sqlite": SQLite}[kind]("orders", target, create=True)


def _context(sink: Sink, columns: pl.Schema, spec: dict[str, object]) -> SinkContext:
    async def refuse(batch: Batch, rejects: Rejects) -> None:
        raise AssertionError("no row is bad")

    def pass_point(name: str) -> None:
        crash_point(name)
        if name == spec.get("stop_at"):
            print("stopped", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

    return SinkContext(
        topology="faults",
        sink=sink.name,
        columns=columns,
        key=(),
        event_time=None,
        clock=time.time,
        owner=str(spec["owner"]),
        refuse=refuse,
        memory_limit=2**24,
        crash_point=pass_point,
        log=cast(Log, None),
    )


if __name__ == "__main__":
    try:
        asyncio.run(deliver(json.loads(sys.argv[1])))
    except Fenced:
        sys.exit(FENCED_EXIT)
