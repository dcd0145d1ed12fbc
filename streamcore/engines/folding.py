"""A sink that writes nothing: it hands rows to a fold, such as the counts of a validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext, SinkWriter

ROWS = 65_536
"""Rows that are folded together: what a fold costs besides its rows is then little."""


class Fold(Protocol):
    """Takes rows in any order of partitions; those of one partition come in theirs."""

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        """Take *frame*, with its hidden columns, in. May be called from a loop: no I/O, no waiting."""
        ...


class Nothing:
    """Takes no notice of rows."""

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        """Nothing is done."""


@dataclass(frozen=True)
class Folding:
    """Where the rows of a read-only topology go. For one run in one process: it stores no position."""

    name: str
    fold: Fold = field(default_factory=Nothing, compare=False, repr=False)

    @property
    def abilities(self) -> SinkAbilities:
        """Rows are only added."""
        return SinkAbilities()

    def check(self, columns: pl.Schema) -> None:
        """Takes all columns."""

    def writer(self, context: SinkContext) -> SinkWriter:
        """See :class:`streamcore.contracts.Sink`."""
        return _Writer(self.fold)


class _Writer:
    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._held: dict[PartitionId, list[pl.DataFrame]] = {}
        self._rows = 0
        self._ends: dict[PartitionId, int] = {}

    async def start(self) -> None:
        pass

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        if batch.frame.height:
            self._held.setdefault(batch.source, []).append(batch.frame)
            self._rows += batch.frame.height
        self._ends[batch.source] = batch.range.end
        if self._rows >= ROWS:
            self._settle()

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        if reason in (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE):
            self._settle()
        return {} if self._held else dict(self._ends)

    def _settle(self) -> None:
        held, self._held, self._rows = self._held, {}, 0
        for source, frames in held.items():
            self._fold.add(source.partition, pl.concat(frames))

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for source in partitions:
            self._held.pop(source, None)
            self._ends.pop(source, None)

    async def close(self) -> None:
        pass
