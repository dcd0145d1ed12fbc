"""Writing each batch when it comes: it is confirmed as soon as ``write`` has returned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason


class DirectWriter(ABC):
    """The live part of a sink that holds nothing back and stores no positions: they are the group's commit.

    At least once: after a crash the batches behind the last commit come again.
    """

    def __init__(self) -> None:
        self._positions: dict[PartitionId, int] = {}

    @abstractmethod
    async def _take(self, batch: Batch) -> None:
        """Deal with the rows of *batch*, of which there are some; all is done on return."""

    async def start(self) -> None:
        """Nothing is to be opened."""
        self._positions.clear()

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """The sink has no positions of its own."""
        self._positions.update(partitions)
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        """Deal with the rows at once."""
        if len(batch):
            await self._take(batch)
        self._positions[batch.source] = batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """All that was written is done."""
        return dict(self._positions)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions*."""
        for source in partitions:
            self._positions.pop(source, None)

    async def close(self) -> None:
        """Nothing is open."""
        self._positions.clear()
