"""The embedded replay against plain polars doing the same: the shipped flights, repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parent.parent
FLIGHTS = ROOT / "data/flights-200k.parquet"


def replays(repeat: int) -> dict[str, dict[str, float]]:
    """Seconds of both for the flights, *repeat* times over, without imports; ours with its peak RSS in MB."""
    with tempfile.TemporaryDirectory() as work:
        flights = pl.read_parquet(FLIGHTS)
        file = Path(work) / "flights.parquet"
        pl.concat([flights] * repeat).write_parquet(file, row_group_size=250_000)
        found = {}
        for name in ("polars", "streamcore"):
            environment = {**os.environ, "FILE": str(file), "WORK": work}
            program = ROOT / f"benchmarks/programs/{name}_replay.py"
            command = [sys.executable, str(program)]
            run = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=ROOT)
            found[name] = json.loads(run.stdout)
        return found
