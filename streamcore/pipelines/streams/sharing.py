"""Events as what wakes a worker, and their partitions as its share of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import SinkAbilities, SinkContext, SinkWriter
from streamcore.pipelines.share import Share
from streamcore.sinks.direct import DirectWriter


@dataclass(frozen=True)
class Waking:
    """A sink of the stream of *topic*: calls *look* when rows come, and keeps *share* as the group has it."""

    topic: str
    share: Share = field(repr=False)
    look: Callable[[], None] = field(repr=False)
    name: str = "workers"

    @property
    def abilities(self) -> SinkAbilities:
        """Appends."""
        return SinkAbilities()

    def check(self, columns: pl.Schema) -> None:
        """Any rows will do."""

    def writer(self, context: SinkContext) -> SinkWriter:
        """The live part."""
        return _Waker(self, context)


class _Waker(DirectWriter):
    def __init__(self, sink: Waking, context: SinkContext) -> None:
        super().__init__()
        self._sink, self._context = sink, context

    async def start(self) -> None:
        """How many partitions there are decides which run is in which."""
        self._sink.share.partitions = len(await self._context.log.bounds(self._sink.topic))

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """What waits in *partitions* is this worker's from now on."""
        self._sink.share.take(source.partition for source in partitions)
        self._sink.look()
        return await super().open(partitions)

    async def _take(self, batch: Batch) -> None:
        self._sink.look()

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """What waits in *partitions* is another one's."""
        self._sink.share.give(source.partition for source in partitions)
        await super().release(partitions)
