"""W1 on streamcore: a worker with dead letters, row positions in the headers, and the e-mail rule."""

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
topology = sc.Topology(os.environ.get("GROUP", "w1"))
(
    topology.stream("users", User, key="user_id", event_time="ts", topic=os.environ.get("IN", "users"))
    .filter("age >= 18")
    .validate(sc.rules.email("email", severity="warning"))
    .add_column("age_group", "case when age < 30 then 'Young' when age < 50 then 'Middle' else 'Senior' end")
    .to(sc.sinks.Topic(os.environ.get("OUT", "adults"), guarantee=GUARANTEE))
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
    fetches = {
        "fetch_min_bytes": os.environ.get("FETCH_MIN_BYTES", "1"),
        "fetch_max_wait_s": os.environ.get("FETCH_MAX_WAIT_S", "0.5"),
    }
    settings = Settings.model_validate(
        {"broker": broker, "state": state, "limits": limits, "kafka": fetches, "http": {"port": 0}}
    )
    run_until_told(settings, lambda stop: work(topology, settings, stop))
