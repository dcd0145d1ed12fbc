"""A table on streamcore: a worker that keeps count and sum by user, its state larger than its memory.

It prints a line when the state has the first $WARM messages. The others may be sent then: they would be
decoded before their time otherwise. When the state has all of $ROWS, it prints what the others took, as one
JSON document, and ends by itself. Updates go to Kafka as JSON, with $SINK "parquet" to files.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time
from pathlib import Path
from unittest import mock

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as `streamcore worker` does, before polars is imported

import streamcore as sc
from streamcore.batch import Chunk
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.worker import run_until_told, work
from streamcore.settings import Settings

WARM, ROWS = int(os.environ["WARM"]), int(os.environ["ROWS"])
LOOK = 0.002
"""Seconds between two looks at how long the worker does nothing else."""


class User(sc.Event):
    event_id: int
    user_id: int
    email: str
    age: int
    salary: float
    action: str
    ts: int


topology = sc.Topology(os.environ["GROUP"])
users = topology.stream("users", User, key="user_id", topic=os.environ["IN"])
table = users.by("user_id").aggregate(name="totals", count="count(*)", sum="sum(salary)")
if os.environ.get("SINK") == "parquet":  # a tenth of what JSON to Kafka costs
    table.changelog().to(sc.sinks.Parquet(f"{os.environ['WORK']}/out"))
else:
    table.to(sc.sinks.Topic(os.environ["OUT"]))


class Meter:
    """What the messages behind the first WARM take, until all ROWS are in the state."""

    def __init__(self) -> None:
        self._watching: asyncio.Task[None] | None = None
        self._began = (0.0, 0.0)
        self._longest = 0.0

    def seen(self, pipeline: Pipeline) -> None:
        """Called after each chunk of a log of state."""
        rows = sum(kept.task.emitted for kept in pipeline.kept.values() if kept.begun)
        if self._watching is None and rows >= WARM:
            print("warm", flush=True)
            self._began = (time.perf_counter(), _cpu())
            self._watching = asyncio.create_task(self._watch(pipeline, rows))

    async def _watch(self, pipeline: Pipeline, first: int) -> None:
        rows = first
        while rows < ROWS:
            before = time.perf_counter()
            await asyncio.sleep(LOOK)
            self._longest = max(self._longest, time.perf_counter() - before - LOOK)
            rows = sum(kept.task.emitted for kept in pipeline.kept.values())
        seconds, cpu = time.perf_counter() - self._began[0], _cpu() - self._began[1]
        took = {"cpu_us": cpu / (rows - first) * 1e6, "rate": (rows - first) / seconds}
        took |= {"longest": self._longest, "rss_mb": _peak("VmHWM")}
        print(json.dumps(took), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak(line: str) -> float:
    return int(Path("/proc/self/status").read_text().partition(line + ":")[2].split()[0]) * 1024 / 1e6


def measured() -> None:
    """Tell a :class:`Meter` of each chunk of the state's log."""
    keep, meter = Pipeline._keep, Meter()

    async def told(self: Pipeline, kept: KeptState, chunk: Chunk) -> None:
        await keep(self, kept, chunk)
        meter.seen(self)

    mock.patch.object(Pipeline, "_keep", told).start()


if __name__ == "__main__":
    measured()
    given = {
        "broker": {"url": f"kafka://{os.environ['BROKER']}"},
        "state": {"dir": os.environ["WORK"], "memory_mb": int(os.environ["STATE_MB"])},
        "limits": {"memory_mb": 64},
        "http": {"port": 0},
    }
    settings = Settings.model_validate(given)
    run_until_told(settings, lambda stop: work(topology, settings, stop))
