"""What a message costs by the number of keys in the state: a table's worker on Kafka, beyond its memory too.

Each key comes once, in random order, which is not counted; then come messages of random keys. Where the
machine lets us make a control group, the worker of the most keys runs within its limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.seeding import PART, keys_of, users
from streamcore.batch import Int64s
from streamcore.contracts import Records
from streamcore.formats import Json
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog

PROGRAM = Path(__file__).parent / "programs/streamcore_keys.py"
COUNTS = (10_000, 1_000_000, 10_000_000)
MESSAGES, WARM = 2_000_000, 500_000
"""How many messages are counted, and how many come before them at least."""
SPILLED = 4_000_000
"""From so many keys on state may take 128 MiB of memory, and the whole process the limit; below them, what
it needs."""
STATE_MB = 128
LIMIT = 1_000_000_000
GROUPS = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True)
class Kept:
    """``cpu_us`` a message, ``rate`` messages a second, ``longest`` seconds in which the worker's loop did
    nothing else, ``rss_mb`` peak with the pages of files, ``limited``: within a control group."""

    keys: int
    cpu_us: float
    rate: float
    longest: float
    rss_mb: float
    limited: bool


async def by_keys(bootstrap: str, counts: Sequence[int], messages: int, partitions: int) -> list[Kept]:
    """A worker for each of *counts* keys, with so many *partitions* of state."""
    return [await _one(bootstrap, count, messages, partitions) for count in counts]


async def _one(bootstrap: str, keys: int, messages: int, partitions: int) -> Kept:
    log, run = KafkaLog(KafkaConnection.parse(f"kafka://{bootstrap}")), f"keys-{uuid.uuid4().hex[:6]}"
    random = np.random.default_rng(keys)
    order, warm = random.permutation(keys), -(-max(keys, WARM) // keys) * keys
    environment = {"BROKER": bootstrap, "GROUP": run, "IN": f"{run}-in", "OUT": f"{run}-out"}
    environment |= {"WARM": str(warm), "ROWS": str(warm + messages)}
    environment["STATE_MB"] = str(STATE_MB if keys >= SPILLED else 4_096)
    try:
        for topic in (f"{run}-in", f"{run}-out"):
            await log.create(topic, partitions, {"retention.ms": "-1"})
        for first in range(0, warm, PART):
            await _send(log, f"{run}-in", order[np.arange(first, min(first + PART, warm)) % keys], first)
        with tempfile.TemporaryDirectory(dir=".") as work, _group(keys >= SPILLED) as group:
            async with _program({**environment, "WORK": work}, group) as output:
                await output.readuntil(b"warm\n")
                for first in range(warm, warm + messages, PART):
                    count = min(PART, warm + messages - first)
                    await _send(log, f"{run}-in", random.integers(0, keys, count), first)
                took: dict[str, float] = json.loads(await output.readline())
        return Kept(keys=keys, limited=group is not None, **took)
    finally:
        await log.close()


async def _send(log: KafkaLog, topic: str, chosen: Int64s, first: int) -> None:
    frame = users(first, len(chosen)).with_columns(pl.Series("user_id", chosen))
    records = Records(Json().encode(frame), frame["ts"].to_numpy(), keys_of(frame["user_id"]))
    await (await log.append(topic, records))


@contextlib.asynccontextmanager
async def _program(environment: Mapping[str, str], group: Path | None) -> AsyncIterator[asyncio.StreamReader]:
    """The worker's output; it has ended, or is killed, behind it."""
    command = [sys.executable, str(PROGRAM)]
    if group is not None:
        command = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group), *command]
    pipe, whole = asyncio.subprocess.PIPE, {**os.environ, **environment}
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=whole)
    assert process.stdout is not None
    try:
        yield process.stdout
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.contextmanager
def _group(wanted: bool) -> Iterator[Path | None]:
    """A control group with our limit, where this machine has version 1 of them and lets us make one."""
    group = GROUPS / f"streamcore-keys-{os.getpid()}"
    try:
        if wanted:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError:
        wanted = False
    try:
        yield group if wanted else None
    finally:
        if wanted:
            group.rmdir()
