"""What a profile costs: ``python -m benchmarks.profiles``. The shipped flights, fifteen times: 3 M rows.

``replay`` is all of ``streamcore quality profile``; ``state`` its pure core alone, over frames in memory;
``polars`` the same questions asked exactly of all rows at once. Each runs in a process of its own, with
polars on one core; imports are not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from streamcore.batch import hide
from streamcore.engines.quality import QualityEngine
from streamcore.quality.profile import QUANTILES
from streamcore.quality.profile_state import ProfileState

FLIGHTS, TIMES = Path("data/flights-200k.parquet"), 15
BATCH = 65_536


def replay(file: Path) -> int:
    """The whole of it, from the file."""
    return asyncio.run(QualityEngine().run(file)).rows


def state(file: Path) -> int:
    """The states of batches, merged."""
    frame = pl.read_parquet(file)
    found = ProfileState.empty(frame.schema)
    for at in range(0, frame.height, BATCH):
        part = frame[at : at + BATCH]
        hidden = hide(part, np.arange(at, at + part.height, dtype=np.int64))
        found = found.merge(ProfileState.of(hidden))
    return found.rows


def polars(file: Path) -> int:
    """Counts, different values, quantiles, moments and frequent values, exactly."""
    frame = pl.read_parquet(file)
    every = pl.all()
    frame.select(
        every.null_count().name.suffix(" nulls"),
        every.n_unique().name.suffix(" different"),
        every.min().name.suffix(" min"),
        every.max().name.suffix(" max"),
    )
    numbers = pl.col(pl.Int64)
    frame.select(
        numbers.mean().name.suffix(" mean"),
        numbers.std().name.suffix(" deviation"),
        *(numbers.quantile(q).name.suffix(f" {q}") for q in QUANTILES),
    )
    for name in frame.columns:
        frame[name].value_counts(sort=True).head(100)
    return frame.height


WAYS: Mapping[str, Callable[[Path], int]] = {"replay": replay, "state": state, "polars": polars}


def measured(way: str, file: Path) -> dict[str, float]:
    """CPU us a row, seconds, and the peak of memory in MB, of *way* over *file*, in this process."""
    began, cpu = time.monotonic(), time.process_time()
    rows = WAYS[way](file)
    return {
        "us": (time.process_time() - cpu) * 1e6 / rows,
        "seconds": time.monotonic() - began,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Each way three times; the run of median cost."""
    table = Table(title=f"{FLIGHTS.name} {TIMES} times, five columns")
    for column in ("way", "CPU us/row", "seconds", "peak RSS MB"):
        table.add_column(column, justify="left" if column == "way" else "right")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flights.parquet"
        pl.concat([pl.read_parquet(FLIGHTS)] * TIMES).write_parquet(file)
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.profiles", way, str(file)]
            runs = [
                json.loads(
                    subprocess.run(
                        command,
                        check=True,
                        capture_output=True,
                        env={**os.environ, "POLARS_MAX_THREADS": "1"},
                    ).stdout
                )
                for _ in range(3)
            ]
            middle = sorted(runs, key=lambda run: float(run["us"]))[1]
            table.add_row(way, f"{middle['us']:.2f}", f"{middle['seconds']:.2f}", f"{middle['mb']:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
