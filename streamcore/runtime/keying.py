"""Checking what ``key=`` asserts: that a topic's records lie where the key columns would put them.

The first rows of each partition are looked at. A topology without state works on any partitioning, so
what does not fit is a warning: rows of one key are then in several partitions, their order is not kept
across them, and a join or window by that key would need a repartition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.errors import StreamcoreError
from streamcore.graph import Graph, Source
from streamcore.sinks.topic_records import record_keys
from streamcore.transport.partitioning import partition_of

log = logging.getLogger(__name__)

_ROWS = 1_000


class KeyCheck:
    """Looks at each partition of the keyed streams of *graph* once, and warns once a topic.

    Files that are replayed embedded are not in the broker's *log* and are left alone.
    """

    def __init__(self, graph: Graph, log: Log) -> None:
        self._graph, self._log = graph, log
        self._partitions: dict[str, int] = {}
        self._done: set[PartitionId] = set()
        self._warned: set[str] = set()

    async def look(self, stream: str, source: PartitionId, decoded: Callable[[], pl.DataFrame]) -> None:
        """See whether the rows that *decoded* gives, of *source*, belong there; does not raise."""
        part = self._graph.sources[stream].part
        assert isinstance(part, Source)
        if source in self._done or not part.key or not (rows := decoded()).height:
            return
        self._done.add(source)
        count = await self._count(source.topic)
        wrong = misplaced(rows.head(_ROWS), part.key, source.partition, count)
        if wrong and source.topic not in self._warned:
            self._warned.add(source.topic)
            log.warning(
                "topic %s is not partitioned by key=%s of stream %r: %d of the first %d rows of partition %d "
                "belong to another; their order is kept by partition only, and joins or windows by this key "
                "would need a repartition",
                source.topic,
                ",".join(part.key),
                stream,
                wrong,
                min(rows.height, _ROWS),
                source.partition,
            )

    async def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            try:
                self._partitions[topic] = len(await self._log.bounds(topic))
            except StreamcoreError:
                return 0  # it is a check only; the worker's own reads will say what is wrong
        return self._partitions[topic]


def misplaced(frame: pl.DataFrame, key: tuple[str, ...], partition: int, partitions: int) -> int:
    """How many rows of *frame*, found in *partition* of so many, murmur2 of their *key* puts elsewhere.

    Rows without a key may lie anywhere.
    """
    if partitions < 2:
        return 0
    belongs = partition_of(record_keys(frame, key), partitions, -1)
    return int(((belongs != partition) & (belongs >= 0)).sum())
