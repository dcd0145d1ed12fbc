"""Rows delivered to a sink as a worker does it, and the codes of those that were refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import polars as pl

from streamcore.batch import Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason, Sink
from streamcore.testing.sinks import SinkTarget, World, batches_of

SOURCE = PartitionId("orders", 0, "c/1")


async def write(sink: Sink, frame: pl.DataFrame) -> Counter[str]:
    """Deliver *frame* in two batches and give the dead letters' codes."""
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame.schema)
    codes: Counter[str] = Counter()

    async def refuse(batch: Batch, rejects: Rejects) -> None:
        codes.update(rejects.frame["code"].to_list())

    sink.check(frame.schema)
    writer = sink.writer(replace(world.context("worker-1"), refuse=refuse))
    try:
        await writer.start()
        start = (await writer.open({SOURCE: 0}))[SOURCE]
        for batch in batches_of(frame, [frame.height // 2], SOURCE, first=start):
            await writer.write(batch)
        assert await writer.flush(FlushReason.END) == {SOURCE: start + frame.height}
    finally:
        await writer.close()
    return codes
