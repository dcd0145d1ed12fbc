"""Workers come and go under load: windows and tables move with their partitions, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.integration.runtime.test_windows_on_kafka import Click, Clicks, counted, times_of
from tests.integration.runtime.test_worker import Working, until
from tests.services.kafka import KafkaServer

ROWS = 200


class Busy(Clicks):
    """Clicks that never stop while workers come and go; a table of the users beside the windows."""

    def __init__(self, server: KafkaServer, tmp_path: Path) -> None:
        super().__init__(server, tmp_path)
        self.table = Target()
        self.times: list[int] = []
        self.over = False

    def topology(self, size: str = "1s") -> sc.Topology:  # type: ignore[override]
        topology = super().topology(size)
        clicks = topology.stream("again", Click, topic=f"{self.topic}-again")
        clicks.by("user").aggregate(n="count(*)").changelog().to(MemorySink("users", self.table))
        return topology

    async def flow(self) -> None:
        """Clicks to both streams, the same to both, until :attr:`over`."""
        while not self.over:
            some = times_of(ROWS, start=len(self.times))
            self.times += some
            values = pa.array([orjson.dumps({"user": f"u{at % 50}", "at": at}) for at in some], pa.binary())
            stamps, partitions = np.full(ROWS, int(time.time() * 1000)), np.arange(ROWS, dtype=np.int32) % 4
            for topic in (self.topic, f"{self.topic}-again"):
                await (await self.log.append(topic, Records(values, stamps, partitions=partitions)))
            await asyncio.sleep(0.05)

    def users(self) -> dict[str, int]:
        frame = self.table.frame()
        return dict(frame.sort("number").select("user", "n").rows()) if "n" in frame.columns else {}


@pytest.fixture
async def busy(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Busy]:
    scene = Busy(kafka, tmp_path)
    for topic in (scene.topic, f"{scene.topic}-again"):
        await scene.log.create(topic, 4, {})
    yield scene
    await scene.log.close()


async def test_from_one_worker_to_three_to_two_under_load(busy: Busy) -> None:
    async def goes_on() -> None:
        windows, users = len(busy.windows()), sum(busy.users().values())
        await until(lambda: len(busy.windows()) > windows + 50, "windows close")
        await until(lambda: sum(busy.users().values()) > users + 500, "the table grows")

    flow = asyncio.create_task(busy.flow())
    try:
        async with contextlib.AsyncExitStack() as staying:
            await staying.enter_async_context(Working(busy, busy.topology()))
            await goes_on()
            async with Working(busy, busy.topology()):
                await staying.enter_async_context(Working(busy, busy.topology()))
                await goes_on()
            await goes_on()
            busy.over = True  # not cancelled: that could be between the two topics
            await flow
            await busy.close_all()
            expected = counted(busy.times)
            await until(lambda: len(busy.windows()) >= len(expected), "all windows")
            counts = Counter(f"u{at % 50}" for at in busy.times)
            await until(lambda: busy.users() == counts, "the whole table")
        assert busy.windows() == expected
    finally:
        flow.cancel()
