"""A topology in a file, with workers on Kafka that are processes of their own, so that they can be killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa

from streamcore.contracts import Records
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.faults.processes import WorkerProcess
from tests.services.kafka import KafkaServer


class Pipeline:
    """*text*, in which ``NAME`` is a name of its own, over a database at *dsn*, which is its DATABASE_URL."""

    def __init__(self, server: KafkaServer, dsn: str, folder: Path, text: str) -> None:
        self.server, self.dsn, self.folder = server, dsn, folder
        self.name = f"killed-{uuid4().hex[:8]}"
        (folder / "pipeline.py").write_text(text.replace("NAME", self.name))
        self.log, self._started = KafkaLog(KafkaConnection.parse(server.url)), 0

    def worker(self, crash: str = "") -> WorkerProcess:
        """One that kills itself at the point *crash*, if it is given."""
        self._started += 1
        return WorkerProcess(
            ["worker", "pipeline.py", "--broker", self.server.url],
            log=self.folder / f"worker-{self._started}.log",
            cwd=self.folder,
            environment={
                "DATABASE_URL": self.dsn,
                "STREAMCORE_CRASH_POINT": crash,
                "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": "6",
                "STREAMCORE_STATE__DIR": str(self.folder / f"state-{self._started}"),
            },
        )

    async def append(
        self, topic: str, rows: Sequence[Mapping[str, object]], partitions: Sequence[int]
    ) -> None:
        """*rows* as JSON to their *partitions*."""
        values = pa.array([orjson.dumps(row) for row in rows], pa.binary())
        stamps, places = np.full(len(rows), int(time.time() * 1000)), np.array(partitions, np.int32)
        await (await self.log.append(topic, Records(values, stamps, partitions=places)))


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 120) -> None:
    """Wait until *holds* says so."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)
