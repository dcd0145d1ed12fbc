"""Nexmark's queries, each replayed embedded over the same generated events to Parquet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from topologies.nexmark.generator import BLOCK, events, write

ROOT = Path(__file__).parent.parent
SEED = 20_260_101


def nexmark(count: int) -> dict[str, dict[str, float]]:
    """For each query seconds and CPU seconds without imports, peak RSS in MB, rows in and out.

    ``tests/topologies`` compare what comes out with SQL; of the clock's windows (q12) and of what a side
    input adds (q13) it is checked here that each bid is in it once.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.jsonl"
        write(file, _blocks(count))
        for query in queries():
            work = Path(folder) / query
            work.mkdir()
            environment = {**os.environ, "FILE": str(file), "WORK": str(work), "QUERY": query}
            command = [sys.executable, "-m", "benchmarks.programs.streamcore_nexmark"]
            run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd=ROOT)
            found[query] = json.loads(run.stdout)
            _check_bids(query, file, work)
    return found


def queries() -> list[str]:
    """The queries that are built, in their order."""
    names = [path.stem for path in (ROOT / "topologies/nexmark").glob("q*.py")]
    return sorted(names, key=lambda name: int(name[1:]))


def _check_bids(query: str, file: Path, work: Path) -> None:
    count = {"q12": pl.col("bids").sum(), "q13": pl.len()}.get(query)
    if count is None:
        return
    rows = pl.scan_parquet(work / f"out/nexmark/{query}/**/*.parquet")
    bids = pl.scan_ndjson(file).filter(pl.col("event") == "bid").select(pl.len()).collect().item()
    counted = rows.select(count).collect().item()
    if counted != bids:
        raise SystemExit(f"{query}: {counted:,} bids in what came out, of {bids:,}")
    if (
        query == "q12"
        and rows.select(pl.struct("bidder", "window_start").is_duplicated().any()).collect().item()
    ):
        raise SystemExit("q12: a window of a bidder has two results")


def _blocks(count: int) -> Iterator[pl.DataFrame]:
    for first in range(0, count, BLOCK):
        yield events(min(BLOCK, count - first), SEED, first=first)
