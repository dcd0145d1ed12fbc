"""What state costs: a table's update by the number of its keys, and a recovery from a snapshot."""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time

import numpy as np
import polars as pl
import pyarrow as pa

import streamcore as sc
from streamcore.batch import OFFSET, PartitionId
from streamcore.contracts import Records
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_logs import RECORD_BYTES, StateLog, definition_of
from streamcore.state.snapshot import Read, Snapshot
from streamcore.tables.declaration import group_operator
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

COLUMNS = pl.Schema({"key": pl.Int64, "value": pl.Int64})
AGGREGATES = {"n": "count(*)", "total": "sum(value)"}
KEYS = (10_000, 100_000, 1_000_000, 10_000_000)
BATCH, CALLS = 16_384, 100


def updates() -> dict[str, float]:
    """CPU us a row of the operator alone, in batches of 16,384 rows of random keys, by keys in its state."""
    operator, found = group_operator(("key",), AGGREGATES, COLUMNS, of=None), {}
    for keys in KEYS:
        rng, state = np.random.default_rng(1), operator.empty
        for part in np.array_split(rng.permutation(keys), max(1, keys // 1_000_000)):
            state = operator.apply(state, [_rows(part)], 0).state
        began = _cpu()
        for _ in range(CALLS):
            applied = operator.apply(state, [_rows(rng.integers(0, keys, BATCH))], 0)
            state = applied.state
            operator.finish(applied.emission)
        found[f"{keys:,} keys"] = (_cpu() - began) / (CALLS * BATCH) * 1e6
    return found


def recovery(megabytes: int) -> dict[str, float]:
    """Seconds and bytes of a table's recovery from a snapshot in an embedded log on disk."""
    return asyncio.run(_recovery(megabytes))


async def _recovery(megabytes: int) -> dict[str, float]:
    topology = sc.Topology("bench")
    rows = topology.stream("rows", dict.fromkeys(COLUMNS, "int64"))
    rows.by("key").aggregate(name="table", **AGGREGATES).changelog().to(sc.sinks.Parquet("out"))
    graph = topology.freeze()
    operator = group_operator(("key",), AGGREGATES, COLUMNS, of=None)
    upstream, definition = (("rows", 0),), definition_of(graph, "table")
    count = megabytes * 1_000_000 // 40  # bytes of a key with its partial aggregates
    state = operator.apply(operator.empty, [_rows(np.arange(count))], 0).state
    snapshot = Snapshot(1, definition, {upstream[0]: Read(count, 0, False)}, state)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker.open(f"embedded://bench{folder}")
        log = EmbeddedLog(broker)
        await log.create("log", 1, {})
        size = 0
        for value in snapshot.records("one", RECORD_BYTES):
            size += len(value)
            await (await log.append("log", Records(pa.array([value], pa.binary()), np.zeros(1, np.int64))))
        began = time.perf_counter()
        kept = KeptState(
            StateLog("table", "log", 1, ("key",), upstream, definition), PartitionId("t", 0, "t"), 1, 0
        )
        kept.begin(graph, (), {}, lambda: 0.0)
        async for chunk in log.scan("log", 0, 0, 1 << 60):
            list(kept.on_chunk(chunk))
        seconds = time.perf_counter() - began
        assert kept.knows
        broker.close()
    return {"seconds": seconds, "bytes": size, "keys": count}


def _rows(keys: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "value": keys, OFFSET: np.arange(len(keys))})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    assert os.environ.get("POLARS_MAX_THREADS") == "1", "as a worker has it"
    for name, cost in updates().items():
        print(f"{name}: {cost:.2f} us a row")
    for megabytes in (100, 1_000):
        found = recovery(megabytes)
        rate = found["bytes"] / found["seconds"] / 1e6
        print(
            f"recovery of {found['keys']:,} keys, {found['bytes'] / 1e6:,.0f} MB: "
            f"{found['seconds']:.1f} s, {rate:,.0f} MB/s"
        )
