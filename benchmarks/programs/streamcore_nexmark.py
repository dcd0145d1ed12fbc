"""One query of Nexmark over the events in FILE, embedded. QUERY, FILE and WORK in the environment."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import time
from pathlib import Path

from batch_adapters.catalogue import open_source
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings

if __name__ == "__main__":
    topology = importlib.import_module(f"topologies.nexmark.{os.environ['QUERY']}").topology
    source = open_source(os.environ["FILE"])
    os.chdir(os.environ["WORK"])
    settings = Settings.model_validate({"state": {"dir": "state"}})
    used, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    summary = asyncio.run(replay(topology, {"events": source}, ReplayOptions(settings), lambda _: None))
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    rows = {"rows_in": summary.progress.rows_in, "rows_out": sum(summary.progress.rows_out.values())}
    print(json.dumps({"seconds": seconds, "cpu": cpu, "rss_mb": peak, **rows}))
