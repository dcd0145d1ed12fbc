"""W2 on streamcore: a worker with a window by user, whose state is in its log."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal
from unittest import mock

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as `streamcore worker` does, before polars is imported

import streamcore as sc
from streamcore.batch import Chunk
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.worker import run_until_told, work
from streamcore.settings import Settings


class User(sc.Event):
    event_id: int
    user_id: int
    email: str
    age: int
    salary: float
    action: str
    ts: int


GUARANTEE: Literal["exactly-once", "at-least-once"] = (
    "exactly-once" if os.environ.get("GUARANTEE") == "exactly-once" else "at-least-once"
)
topology = sc.Topology(os.environ.get("GROUP", "w2"))
(
    topology.stream("users", User, key="user_id", event_time="ts", topic=os.environ.get("IN", "users"))
    .window(sc.tumbling("10s"))
    .by("user_id")
    .aggregate(count="count(*)", sum="sum(salary)")
    .to(sc.sinks.Topic(os.environ.get("OUT", "windows"), guarantee=GUARANTEE))
)


def tell_the_first_chunk() -> None:
    """Write $T0FILE when the first message is in hand: where the measurement begins."""
    process = Pipeline.process

    async def timed(self: Pipeline, *chunks: Chunk) -> None:
        if any(map(len, chunks)):
            Path(os.environ["T0FILE"]).write_text(str(time.time()))
            patched.stop()
        await process(self, *chunks)

    patched = mock.patch.object(Pipeline, "process", timed)
    patched.start()


if __name__ == "__main__":
    if "T0FILE" in os.environ:
        tell_the_first_chunk()
    broker = {"url": f"kafka://{os.environ['BROKER']}"}
    state = {"dir": os.environ["WORK"]}
    limits = {"memory_mb": int(os.environ.get("MEMORY_MB", "64"))}
    settings = Settings.model_validate(
        {"broker": broker, "state": state, "limits": limits, "http": {"port": 0}}
    )
    run_until_told(settings, lambda stop: work(topology, settings, stop))
