"""What a chunk of few rows costs: W1's task by rows a chunk, and packing by pyarrow and by cramjam.

Prints one JSON document: milliseconds of CPU a call, and kilobytes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import cramjam
import numpy as np
import pyarrow as pa

from benchmarks.programs.streamcore_w1 import topology
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Records
from streamcore.joint import on_chunks
from streamcore.task import PartitionTask
from streamcore.transport import record_batches

SOURCE = PartitionId("users", 0, "id")
CALLS = 200


def message(number: int) -> bytes:
    """A message of W1."""
    user = random.randrange(10_000)
    body = {
        "event_id": number,
        "user_id": user,
        "email": f"user{user}@example.com" if number % 50 else "bad",
        "age": 18 + number % 60,
        "salary": random.random() * 1e5,
        "action": "login",
        "ts": 1_700_000_000_000 + number,
    }
    return json.dumps(body).encode()


def milliseconds(calls: list[Callable[[], object]]) -> float:
    """CPU of one of *calls*, the first tenth of which is not counted."""
    warm = len(calls) // 10
    for call in calls[:warm]:
        call()
    began = time.process_time()
    for call in calls[warm:]:
        call()
    return (time.process_time() - began) * 1e3 / (len(calls) - warm)


def chunks_of(source: PartitionId, rows: int) -> list[Chunk]:
    """Chunks of *rows* rows of *source* that follow each other."""
    return [
        RecordChunk(
            source,
            np.arange(first, first + rows),
            [message(number) for number in range(first, first + rows)],
            keys=[b"1"] * rows,
            timestamps=np.full(rows, 1_700_000_000_000),
        )
        for first in range(0, CALLS * rows, rows)
    ]


def task_calls(rows: int) -> list[Callable[[], object]]:
    """Calls of one task with chunks of *rows* rows."""
    task = PartitionTask(topology.freeze(), "users", SOURCE)
    return [partial(task.on_chunk, chunk) for chunk in chunks_of(SOURCE, rows)]


def joint_calls(rows: int) -> list[Callable[[], object]]:
    """Calls with one chunk of each of four partitions."""
    sources = [SOURCE._replace(partition=number) for number in range(4)]
    tasks = [PartitionTask(topology.freeze(), "users", source) for source in sources]
    fetches = zip(*(chunks_of(source, rows) for source in sources), strict=True)
    work = [list(zip(tasks, fetch, strict=True)) for fetch in fetches]
    return [partial(on_chunks, one) for one in work]


def batch_calls(rows: int, few: int) -> list[Callable[[], object]]:
    """Calls that make record batches of *rows* records with a header; up to *few* of them one by one."""
    values = pa.array([message(number) for number in range(rows)], pa.binary())
    keys = pa.array([b"%d" % (number % 10_000) for number in range(rows)], pa.binary())
    header = ("sc-position", pa.array([bytes(20)] * rows, pa.binary()))
    records = Records(values, np.full(rows, 1_700_000_000_000), keys, headers=(header,))

    def call() -> object:
        with mock.patch.object(record_batches, "FEW", few):
            return list(record_batches.batches(records, 4, 0))

    return [call] * CALLS


def main() -> None:
    costs = {f"task, {rows} rows": milliseconds(task_calls(rows)) for rows in (15, 60, 250, 1_000, 5_000)}
    costs["tasks of 4 partitions together, 15 rows each"] = milliseconds(joint_calls(15))
    for rows in (1, 100, 256, 400, 1_500):
        for way, few in (("by columns", 0), ("one by one", rows)):
            costs[f"batches of {rows} records, {way}"] = milliseconds(batch_calls(rows, few))
    plain = b"".join(message(number) for number in range(9_000))
    codec = pa.Codec("zstd", compression_level=1)
    packed = codec.compress(plain, asbytes=True)
    ways: dict[str, Callable[[], object]] = {
        "pack 1.2 MB, pyarrow": lambda: codec.compress(plain, asbytes=True),
        "pack 1.2 MB, cramjam": lambda: bytes(cramjam.zstd.compress(plain, level=1)),
        "pack 1.2 MB, cramjam at level -3": lambda: bytes(cramjam.zstd.compress(plain, level=-3)),
        "unpack 1.2 MB, pyarrow": lambda: codec.decompress(packed, len(plain), asbytes=True),
        "unpack 1.2 MB, cramjam": lambda: bytes(cramjam.zstd.decompress(packed)),
    }
    costs |= {name: milliseconds([way] * CALLS) for name, way in ways.items()}
    sizes = {level: len(cramjam.zstd.compress(plain, level=level)) for level in (1, -3)}
    found = {name: f"{cost:.2f} ms" for name, cost in costs.items()}
    found |= {f"1.2 MB at level {level}": f"{size / 1000:.0f} kB" for level, size in sizes.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
