"""Memory is bounded by the byte budget: a sink far slower than the broker presses back on the fetch."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
import psutil
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.integration.transport.embedded_victim import peak_rss
from tests.services.kafka import KafkaServer

MESSAGES, SIZE = 300_000, 1_000
"""300 MB: many times what may be held."""
SECONDS = 10.0


class Forgetful(Target):
    """Counts rows and keeps none."""

    rows = 0

    class _Counted(list[object]):
        def append(self, frame: object) -> None:
            Forgetful.rows += len(frame)  # type: ignore[arg-type]


async def slowly(url: str, topic: str, folder: str) -> None:
    """Work for a while with a sink that takes a chunk every 0.4 seconds; print what the memory did."""
    topology = sc.Topology(f"slow-{topic}")
    target = Forgetful(delay=0.4, batches=Forgetful._Counted())  # type: ignore[arg-type]
    topology.stream("t", {"id": "int64", "pad": "string"}, topic=topic).to(MemorySink("slow", target))
    given = {"broker": {"url": url}, "state": {"dir": folder}, "http": {"port": 0}}
    settings = Settings.model_validate({**given, "limits": {"memory_mb": 16}})
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(topology, settings, stop))
    while not Forgetful.rows and not task.done():
        await asyncio.sleep(0.05)
    before = psutil.Process().memory_info().rss >> 20
    await asyncio.sleep(SECONDS)
    peak = peak_rss() >> 20
    print(json.dumps({"before": before, "peak": peak, "rows": Forgetful.rows}), flush=True)
    stop.set()
    target.delay = 0
    await task


@pytest.mark.slow
async def test_a_slow_sink_presses_back_and_memory_stays_bounded(kafka: KafkaServer, tmp_path: Path) -> None:
    topic = f"slow-{uuid4().hex[:8]}"
    log = KafkaLog(KafkaConnection.parse(kafka.url))
    await log.create(topic, 4, {})
    noise = np.random.default_rng(1).integers(97, 123, (5_000, SIZE), dtype=np.uint8)
    for first in range(0, MESSAGES, 5_000):
        pads = [bytes(row).decode() for row in noise]
        values = [orjson.dumps({"id": first + i, "pad": pad}) for i, pad in enumerate(pads)]
        keys = pa.array([b"%d" % i for i in range(5_000)])
        stamps = np.full(5_000, 1_700_000_000_000)
        await (await log.append(topic, Records(pa.array(values), stamps, keys)))
    await log.close()
    command = [sys.executable, "-m", __spec__.name, kafka.url, topic, str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    seen = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    assert 0 < seen["rows"] < MESSAGES / 2, "the sink was not slow"
    # A fetch of 8 MB is at once in Kafka's client, as a chunk, and as a frame; the budget holds 16 more.
    assert seen["peak"] - seen["before"] < 100, seen


if __name__ == "__main__":
    asyncio.run(slowly(*sys.argv[1:]))
