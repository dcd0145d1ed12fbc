"""A sink in this process's memory that behaves like a fenced database, and fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext
from streamcore.errors import Fenced


@dataclass
class Target:
    """What stays when a writer is gone. ``failures`` are raised one a write, ``delay`` is seconds a write."""

    failures: list[Exception] = field(default_factory=list)
    delay: float = 0.0
    batches: list[pl.DataFrame] = field(default_factory=list)
    positions: dict[PartitionId, int] = field(default_factory=dict)
    owners: dict[PartitionId, object] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        return pl.concat(self.batches, how="diagonal_relaxed") if self.batches else pl.DataFrame({"id": []})


@dataclass(frozen=True)
class MemorySink:
    name: str
    target: Target
    abilities = SinkAbilities(stores_positions=True, transactional=True)

    def check(self, columns: pl.Schema) -> None:
        pass

    def writer(self, context: SinkContext) -> MemoryWriter:
        return MemoryWriter(self.target)


class MemoryWriter:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: set[PartitionId] = set()

    async def start(self) -> None:
        pass

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        for source, start in partitions.items():
            self._target.positions.setdefault(source, start)
            self._target.owners[source] = self
            self._open.add(source)
        return {source: self._target.positions[source] for source in partitions}

    async def write(self, batch: Batch) -> None:
        target = self._target
        await asyncio.sleep(target.delay)
        if target.failures:
            raise target.failures.pop(0)
        if target.owners[batch.source] is not self or target.positions[batch.source] != batch.range.start:
            raise Fenced("another owner", where=str(batch.source))
        if len(batch):
            target.batches.append(batch.rows)
        target.positions[batch.source] = batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        return {source: self._target.positions[source] for source in self._open}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        self._open -= set(partitions)

    async def close(self) -> None:
        pass
