"""What state costs: a table's update by the number of its keys, and a recovery from a snapshot."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

import streamcore as sc
from streamcore.batch import OFFSET, PartitionId
from streamcore.contracts import Records
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_disk import Disk
from streamcore.runtime.state_logs import RECORD_BYTES, StateLog, definition_of
from streamcore.state.runs import Runs
from streamcore.state.snapshot import Read, Snapshot
from streamcore.tables.declaration import group_operator
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

COLUMNS = pl.Schema({"key": pl.Int64, "value": pl.Int64})
AGGREGATES = {"n": "count(*)", "total": "sum(value)"}
KEYS = (10_000, 100_000, 1_000_000, 10_000_000)
BATCH, CALLS = 16_384, 100
MEMORY_MB = 128
"""What state may take of memory where it is to lie on disk."""


def updates(keys: int, memory_mb: int) -> dict[str, float]:
    """What an update of a table with so many *keys* costs, of which *memory_mb* may be in memory.

    CPU us a row of the operator alone, in batches of 16,384 rows of random keys, until the largest run has
    been merged once or more; ``worst`` is the longest call in seconds. ``anon`` and ``file`` are the peaks of
    the process's memory in MB: its own, and pages of mapped files, which the kernel takes back when it
    needs them.
    """
    operator = group_operator(("key",), AGGREGATES, COLUMNS)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rng, place = np.random.default_rng(1), _disk(folder, memory_mb)
        state = replace(operator.empty, kept=(Runs((), place),))
        for part in np.array_split(rng.permutation(keys), max(1, keys // BATCH)):
            state = operator.apply(state, [_rows(part)], 0).state
        calls, worst, anon, file = max(CALLS, keys // BATCH), 0.0, 0, 0
        began = _cpu()
        for _ in range(calls):
            call = _cpu()
            applied = operator.apply(state, [_rows(rng.integers(0, keys, BATCH))], 0)
            state = applied.state
            operator.finish(applied.emission)
            worst = max(worst, _cpu() - call)
            anon, file = max(anon, _memory("RssAnon")), max(file, _memory("RssFile"))
        cost = (_cpu() - began) / (calls * BATCH) * 1e6
    return {"us": cost, "worst": worst, "anon": anon, "file": file, "rss": _memory("VmHWM")}


def recovery(megabytes: int) -> dict[str, float]:
    """Seconds and bytes of a table's recovery from a snapshot in an embedded log on disk, and peaks in MB."""
    return asyncio.run(_recovery(megabytes))


async def _recovery(megabytes: int) -> dict[str, float]:
    topology = sc.Topology("bench")
    rows = topology.stream("rows", dict.fromkeys(COLUMNS, "int64"))
    rows.by("key").aggregate(name="table", **AGGREGATES).changelog().to(sc.sinks.Parquet("out"))
    graph = topology.freeze()
    operator = group_operator(("key",), AGGREGATES, COLUMNS)
    upstream, definition = (("rows", 0),), definition_of(graph, "table")
    count = megabytes * 1_000_000 // 40  # bytes of a key with its partial aggregates
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = _disk(folder, MEMORY_MB)
        state = replace(operator.empty, kept=(Runs((), place),))
        for part in np.array_split(np.arange(count), max(1, count // 100_000)):
            state = operator.apply(state, [_rows(part)], 0).state
        snapshot = Snapshot(1, definition, {upstream[0]: Read(count, 0, False)}, state)
        broker = Broker.open(f"embedded://bench{Path(folder).resolve()}")
        log = EmbeddedLog(broker)
        await log.create("log", 1, {})
        size = 0
        for value in snapshot.records("one", RECORD_BYTES):
            size += len(value)
            await (await log.append("log", Records(pa.array([value], pa.binary()), np.zeros(1, np.int64))))
        began, used = time.perf_counter(), _cpu()
        kept = KeptState(
            StateLog("table", "log", 1, ("key",), upstream, definition), PartitionId("t", 0, "t"), 1, 0
        )
        del state, snapshot
        kept.begin(graph, (), {}, time.perf_counter, place)
        anon = 0
        async for chunk in log.scan("log", 0, 0, 1 << 60):
            list(kept.on_chunk(chunk))
            anon = max(anon, _memory("RssAnon"))
        seconds, used = time.perf_counter() - began, _cpu() - used
        assert kept.knows
        broker.close()
    return {"seconds": seconds, "bytes": size, "keys": count, "anon": anon, "cpu": used}


def _rows(keys: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "value": keys, OFFSET: np.arange(len(keys))})


def _disk(folder: str, memory_mb: int) -> Disk:
    return Disk(Path(folder), memory_mb << 20, pages=memory_mb << 20)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory(line: str) -> int:
    """MB by a line of /proc/self/status."""
    (found,) = (told for told in Path("/proc/self/status").read_text().splitlines() if told.startswith(line))
    return int(found.split()[1]) * 1024 // 1_000_000


def _alone(call: str) -> dict[str, float]:
    """What *call* of this module gives in a process of its own, whose memory nothing else has touched."""
    code = f"import json; from benchmarks.states import *; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    assert os.environ.get("POLARS_MAX_THREADS") == "1", "as a worker has it"
    for keys in KEYS:
        for memory in (1_000_000, MEMORY_MB) if keys == KEYS[-1] else (1_000_000,):
            found = _alone(f"updates({keys}, {memory})")
            where = f"at most {memory} MiB in memory" if memory == MEMORY_MB else "in memory"
            print(
                f"{keys:,} keys, {where}: {found['us']:.2f} us a row, longest call {found['worst']:.2f} s; "
                f"peaks: own memory {found['anon']} MB, file pages {found['file']} MB, RSS {found['rss']} MB",
                flush=True,
            )
    for megabytes in (100, 1_000):
        found = _alone(f"recovery({megabytes})")
        rate = found["bytes"] / found["seconds"] / 1e6
        print(
            f"recovery of {found['keys']:,} keys, {found['bytes'] / 1e6:,.0f} MB: {found['seconds']:.1f} s "
            f"({found['cpu']:.1f} s CPU), {rate:,.0f} MB/s, own memory at most {found['anon']} MB",
            flush=True,
        )
