"""A log in memory that tears: an append that fails leaves a prefix of its rows in each partition.

As with Kafka's, what is asked for after a failure is known goes in again; what was waiting fails.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Mapping

from streamcore.batch import PartitionId, Range, RecordChunk
from streamcore.contracts import Records
from streamcore.errors import Transient
from streamcore.transport.partitioning import by_partition

Row = tuple["bytes | None", "bytes | None", tuple[tuple[str, bytes], ...]]


class TornLog:
    """*failures*: how many appends of rows fail, at places drawn by *seed*.

    ``topics``: the rows of each partition.
    """

    def __init__(self, seed: int = 0, failures: int = 0) -> None:
        self._random, self._failures = random.Random(seed), failures
        self._torn = False
        self._tears = 0
        self._pending = 0
        self.topics: dict[str, list[list[Row]]] = {}

    async def bounds(self, topic: str) -> Mapping[int, Range]:
        assert not self._pending, "what was begun must have settled"
        self._torn = False
        return {number: Range(0, len(rows)) for number, rows in enumerate(self.topics.get(topic, []))}

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        new = topic not in self.topics
        self.topics.setdefault(topic, [[] for _ in range(partitions)])
        return new

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        tears = self._tears
        await asyncio.sleep(0)
        if self._tears != tears:
            raise Transient("an append before this one failed")
        self._pending += 1
        if (
            not topic.endswith(".replays")
            and not self._torn
            and self._failures
            and self._random.random() < 0.3
        ):
            self._failures -= 1
            self._torn = True
            self._add(topic, records, whole=False)
        elif not self._torn:
            self._add(topic, records, whole=True)
        return asyncio.ensure_future(self._outcome(self._torn))

    async def _outcome(self, torn: bool) -> None:
        await asyncio.sleep(0)
        self._pending -= 1
        if torn:
            self._torn = False
            self._tears += 1
            raise Transient("the broker went away")

    def _add(self, topic: str, records: Records, *, whole: bool) -> None:
        partitions = self.topics[topic]
        for number, part in by_partition(records, len(partitions), 0):
            columns = [[v] * len(part) if isinstance(v, bytes) else v.to_pylist() for _, v in part.headers]
            names = [name for name, _ in part.headers]
            headers = [tuple(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
            keys = [None] * len(part) if part.keys is None else part.keys.to_pylist()
            rows = list(zip(keys, part.values.to_pylist(), headers or [()] * len(part), strict=True))
            partitions[number] += rows if whole else rows[: self._random.randint(0, len(rows))]

    async def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        rows = self.topics[topic][partition][start:end]
        if rows:
            yield RecordChunk(
                PartitionId(topic, partition, "torn"),
                range(start, start + len(rows)),
                [value for _, value, _ in rows],
                keys=[key for key, _, _ in rows],
                headers=[headers for _, _, headers in rows],
            )

    async def close(self) -> None:
        pass
