"""Programs that the tests run in a process of their own, to kill or to measure.

``fill FOLDER SEED`` appends numbers for ever, consumes them, prints how many are durable and how
far the group's commit must have come.
``squeeze FOLDER`` sends 400 MB past a slow consumer and prints by how many MB the process grew.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from streamcore.batch import Chunk
from streamcore.contracts import Records
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.transport.embedded_apps import collect, make_app, running, until


async def fill(folder: str, seed: int) -> None:
    """Batches of random size until killed; each line of output is a promise."""
    dice = random.Random(seed)
    broker = Broker.open(f"embedded://victim{folder}", segment_bytes=20_000)
    log = EmbeddedLog(broker)
    await log.create("events", 1, {})
    app = make_app(broker.url, Path(tempfile.mkdtemp(dir=folder)))
    collect(app, "events", lambda chunk: None)
    app.finalize()
    starting = asyncio.ensure_future(app.start())
    count = (await log.bounds("events"))[0].end
    reached = 0
    while True:
        values = [b"%d" % n for n in range(count, count + dice.randint(1, 60))]
        done = await log.append(
            "events", Records(pa.array(values, pa.binary()), np.zeros(len(values), np.int64))
        )
        count += len(values)
        if dice.random() < 0.5:
            await done
            print("durable", count, flush=True)
        if starting.done():
            starting.result()
        if (now := sum(broker.group("group").committed.values())) > reached:
            reached = now
            print("reached", reached, flush=True)
        await asyncio.sleep(0)


def peak_rss() -> int:
    """Bytes; getrusage's maximum would count the process that this one was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


async def squeeze(folder: str) -> None:
    """What is in flight must not grow with what is sent."""
    broker = Broker.open("embedded://squeeze", partition_bytes=8 << 20)
    log = EmbeddedLog(broker)
    await log.create("events", 1, {})
    app = make_app(broker.url, Path(folder))
    rows = 0

    async def slow(chunk: Chunk) -> None:
        nonlocal rows
        rows += len(chunk)
        await asyncio.sleep(0.01)

    collect(app, "events", slow)
    payload = Records(pa.array([bytes(1000)] * 4000, pa.binary()), np.zeros(4000, np.int64))
    async with running(app):
        await until(lambda: app.consumer.assignment())
        await log.append("events", payload)
        await until(lambda: rows == 4000)
        before = psutil.Process().memory_info().rss
        for _ in range(100):
            await log.append("events", payload)
        await until(lambda: rows == 404_000, 60)
    print((peak_rss() - before) >> 20)
    broker.close()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(squeeze(sys.argv[2]))
