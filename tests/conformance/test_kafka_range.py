"""A range of a Kafka topic keeps the laws of bounded sources, on the real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource, Records
from streamcore.systems.kafka import KafkaConnection
from streamcore.testing.sources import BoundedSourceConformance, ReadRecord, SourceContent
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer


@pytest.mark.slow
class TestKafkaRange(BoundedSourceConformance):
    """A topic of one partition, another one for each content."""

    @pytest.fixture
    def folder(self, tmp_path: Path, kafka: KafkaServer) -> Path:
        self.url = kafka.url
        return tmp_path

    def write(self, folder: Path, content: SourceContent) -> None:
        self.topic = f"range-{uuid.uuid4().hex[:12]}"
        values = [json.dumps(row).encode() for row in content.good()]

        async def fill() -> None:
            log = KafkaLog(KafkaConnection.parse(self.url))
            await log.create(self.topic, 1, {})
            for at in range(0, len(values), 400):  # several batches
                part = pa.array(values[at : at + 400], pa.binary())
                await (await log.append(self.topic, Records(part, np.full(len(part), 1_000, np.int64))))
            await log.close()

        asyncio.run(fill())

    def open(self, folder: Path) -> BoundedSource:
        return open_source(f"{self.url}/{self.topic}")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        assert isinstance(record.value, bytes)
        row: Mapping[str, object] = json.loads(record.value)
        return row

    def test_splits_have_names_of_their_own_and_a_size(self, folder: Path) -> None:
        (split,) = self.source(folder, 2000).splits(3)
        assert (split.name, split.size) == (f"{self.topic}/0 [0:2000]", 2000)
