"""Targets of the exactly-once topic sink for the conformance suite, read as a user would read them."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.sinks.topic import Topic
from streamcore.systems.kafka import KafkaConnection
from streamcore.testing.sink_world import COLUMNS
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.kafka_log import KafkaLog
from tests.conformance.sink_targets import MEMORY
from tests.services.kafka_topics import committed_records, stored_positions

PARTITIONS = 3
_KEPT = {"retention.ms": "-1"}
"""The rows are dated long ago: by default Kafka deletes them, at times in the middle of a test."""
_PATIENCE = 0.0
"""What hides behind a transaction that a test leaves open was not committed."""


class _TopicTarget:
    """A fresh topic of *log*."""

    log: Log

    def __init__(self) -> None:
        self.topic = self.topology = f"exact-{uuid.uuid4().hex[:12]}"
        self.sink = Topic(self.topic, key="id", guarantee="exactly-once", commit_seconds=1)

    async def start(self) -> None:
        await self.log.create(self.topic, PARTITIONS, _KEPT)

    async def rows(self) -> pl.DataFrame:
        return pl.DataFrame([orjson.loads(value) for value in await self.values()], schema=COLUMNS)

    async def values(self) -> Sequence[bytes]:
        """The records' values."""
        raise NotImplementedError


class KafkaTopicTarget(_TopicTarget):
    """On Kafka, read by a plain consumer of committed records."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self._bootstrap = bootstrap

    async def start(self) -> None:
        self.log = KafkaLog(KafkaConnection.parse(f"kafka://{self._bootstrap}"))
        await super().start()

    async def values(self) -> Sequence[bytes]:
        found = await committed_records(self._bootstrap, self.topic, _PATIENCE)
        return [record.value for record in found]

    async def positions(self) -> Mapping[PartitionId, int]:
        found = await stored_positions(self._bootstrap, f"{self.topology}.positions", _PATIENCE)
        return {PartitionId(v["topic"], v["partition"], v["topic_id"]): v["position"] for v in found}

    async def close(self) -> None:
        await self.log.close()


class EmbeddedTopicTarget(_TopicTarget):
    """In a directory of the embedded broker."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="streamcore-topic-", dir=MEMORY))
        self._broker = Broker.open(f"embedded://{self.topic}{self._folder}")
        self.log = EmbeddedLog(self._broker)

    async def values(self) -> Sequence[bytes]:
        parts = [self.log.scan(self.topic, number, 0, 1 << 60) for number in range(PARTITIONS)]
        return [value for part in parts async for chunk in part for value in chunk.values() if value]

    async def positions(self) -> Mapping[PartitionId, int]:
        groups = [group.committed for name, group in self._broker._groups.items() if name.startswith("lane-")]
        return {s: at for group in groups for s, at in group.items() if s.topic != self.topic}

    async def close(self) -> None:
        self._broker.close()
        shutil.rmtree(self._folder)
