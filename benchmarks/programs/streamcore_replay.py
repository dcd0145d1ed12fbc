"""The embedded replay: validated, filtered, banded flights to Parquet. FILE and WORK in the environment."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import datetime
from pathlib import Path

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings

WORK = os.environ["WORK"]


class Flight(sc.Event):
    date: datetime
    delay: int
    distance: int = sc.Field(gt=0)
    origin: str = sc.Field(pattern=r"^[A-Z]{3}$")
    destination: str


topology = sc.Topology("bench")
(
    topology.stream("flights", Flight, event_time="date")
    .filter("delay > 15")
    .add_column("band", "case when delay < 60 then 'late' else 'very late' end")
    .to(sc.sinks.Parquet(WORK + "/late"))
)

if __name__ == "__main__":
    settings = Settings.model_validate({"state": {"dir": WORK + "/state"}})
    source = open_source(os.environ["FILE"])
    began = time.perf_counter()
    summary = asyncio.run(replay(topology, {"flights": source}, ReplayOptions(settings), lambda _: None))
    seconds = time.perf_counter() - began
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "rows": summary.progress.rows_in, "rss_mb": peak}))
