"""W1 and W2 on Kafka beside the peers: throughput and cost, cost by partitions, latency at a steady rate.

W1: filter, an e-mail check, a column. W2: a tumbling window of 10 s by user, count and sum, with the
engine's own durable state.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import psutil

from benchmarks.cores import core_of_its_own, pace
from benchmarks.measuring import Measured, measure, records_of
from benchmarks.seeding import Seeded, seed
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog

PROGRAMS = Path(__file__).parent / "programs"
PEERS_PYTHON = Path(__file__).parent.parent / ".venv-bench/bin/python"
MESSAGES = {"streamcore": 1_000_000, "streamcore-exact": 1_000_000, "quix": 1_000_000, "faust": 50_000}
"""Messages a program gets: plain Faust needs a quarter of a millisecond for each, and more in W2."""
KEEP = {"retention.ms": "-1"}
NOTHING = "nothing"
"""No program at all: what the load, the broker and the reader take by themselves of a latency."""


def _guarantee(name: str) -> str:
    return "exactly-once" if name.endswith("-exact") else "at-least-once"


def _command(name: str, workload: str = "w1") -> list[str]:
    if name == NOTHING:
        return ["sleep", "3600"]
    python = str(PEERS_PYTHON) if name == "quix" else sys.executable
    return [python, str(PROGRAMS / f"{name.removesuffix('-exact')}_{workload}.py")]


async def throughput(
    bootstrap: str,
    workload: str,
    names: Sequence[str],
    messages: int | None,
    partitions: int,
    runs: int,
    *,
    uneven: bool = False,
) -> list[Measured]:
    """*workload* for each of *names*, on *partitions* partitions: of *runs* runs the one of median cost.

    *uneven*: most messages are in one partition, see :func:`benchmarks.seeding.seed`.
    """
    log = KafkaLog(KafkaConnection.parse(f"kafka://{bootstrap}"))
    found: list[Measured] = []
    topics: dict[int, Seeded] = {}
    try:
        for name in names:
            count = messages or MESSAGES[name]
            if count not in topics:
                topic = f"users-{count}-{uuid.uuid4().hex[:6]}"
                topics[count] = await seed(log, topic, count, partitions, uneven=uneven)
            tries = [await _one(log, bootstrap, workload, name, topics[count]) for _ in range(runs)]
            found.append(sorted(tries, key=lambda m: m.cpu_us)[runs // 2])
    finally:
        await log.close()
    return found


async def _one(log: KafkaLog, bootstrap: str, workload: str, name: str, given: Seeded) -> Measured:
    run, partitions = f"bench-{name}-{uuid.uuid4().hex[:6]}", given.partitions
    output, expected = f"{run}-out", given.adults if workload == "w1" else given.windows
    await log.create(output, partitions, KEEP)
    with tempfile.TemporaryDirectory() as work:
        environment = {"BROKER": bootstrap, "IN": given.topic, "OUT": output, "GROUP": run, "WORK": work}
        environment["GUARANTEE"] = _guarantee(name)
        label = name if partitions == 4 else f"{name}, {partitions} partitions"
        async with records_of(bootstrap, output, partitions) as records:
            measured = await measure(
                label, _command(name, workload), environment, records, given.messages, expected, Path(work)
            )
        if measured.note:
            print((Path(work) / f"{label}.log").read_text()[-2000:], file=sys.stderr)
    if workload == "w2":
        counted = await _counted(log, output)
        if counted != given.messages:
            return replace(measured, note=f"wrong: {counted:,} rows counted")
    return measured


async def _counted(log: KafkaLog, topic: str) -> int:
    """The rows that W2's results in *topic* say they have seen."""
    total = 0
    for partition, bounds in (await log.bounds(topic)).items():
        async for chunk in log.scan(topic, partition, *bounds):
            results = [orjson.loads(value or b"{}") for value in chunk.values()]
            total += sum(result.get("count", 0) for result in results)
    return total


async def latency(bootstrap: str, name: str, rate: int, seconds: float, warm: float) -> dict[str, float]:
    """Milliseconds from a message's ``ts`` to its result, at a steady *rate* messages a second.

    Of *seconds* the first *warm* are not counted. ``cores`` is how many the program kept busy, of the one
    that it has for itself (see :mod:`benchmarks.cores`), and ``pace`` that of the machine before and after.
    """
    before = pace()
    log = KafkaLog(KafkaConnection.parse(f"kafka://{bootstrap}"))
    run = f"latency-{name}-{uuid.uuid4().hex[:6]}"
    for topic in (f"{run}-in", f"{run}-out"):
        await log.create(topic, 4, KEEP)
    await log.close()
    with tempfile.TemporaryDirectory() as work, core_of_its_own() as put_there:
        environment = {
            **os.environ,
            "BROKER": bootstrap,
            "IN": f"{run}-in",
            "OUT": f"{run}-in" if name == NOTHING else f"{run}-out",
            "GROUP": run,
            "WORK": work,
            "GUARANTEE": _guarantee(name),
            "T0FILE": f"{work}/t0",
            "LINGER": "5",
            "RATE": str(rate),
            "SECONDS": str(seconds),
            "WARM": str(warm),
        }
        with Path(work, "log").open("wb") as stream:
            program = subprocess.Popen(
                _command(name),
                env=environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=put_there,
            )
        try:
            command = [str(PEERS_PYTHON), str(PROGRAMS / "load.py")]
            loading = asyncio.to_thread(
                subprocess.run, command, env=environment, capture_output=True, check=True
            )
            load, cores = await asyncio.gather(loading, _cores(program.pid, warm + 5, seconds - warm - 2))
        finally:
            os.killpg(program.pid, signal.SIGTERM)
            program.wait(15)
        result: dict[str, float] = json.loads(load.stdout)
        return {**result, "cores": cores, "pace": (before + pace()) / 2}


async def _cores(pid: int, after: float, seconds: float) -> float:
    """How many cores process *pid* keeps busy for *seconds*, from *after* seconds on."""

    def used() -> float:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system

    await asyncio.sleep(after)
    before = used()
    await asyncio.sleep(seconds)
    return (used() - before) / seconds
