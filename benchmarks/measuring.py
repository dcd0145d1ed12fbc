"""Running one program on one topic: CPU and memory of its process tree, and the output's growth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

SAMPLE = 0.05
RESTS, RESTING = 15.0, 0.2
"""A program that writes nothing for so many seconds, and uses less of a core, has done all that it will."""
Records = Callable[[], Awaitable[int]]
"""How many records the output holds now."""


@contextlib.asynccontextmanager
async def records_of(bootstrap: str, topic: str, partitions: int) -> AsyncIterator[Records]:
    """Counts *topic*'s records through one connection: a new one for each look would load the machine."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        every = [TopicPartition(topic, p) for p in range(partitions)]

        async def records() -> int:
            return sum((await consumer.end_offsets(every)).values())

        yield records
    finally:
        await consumer.stop()


@dataclass(frozen=True)
class Measured:
    """``cpu_us`` CPU microseconds a message, ``rate`` messages a second (first message to last result),
    ``steady`` messages a second from 20 % to 100 % of the output, ``rss_mb`` peak of the process tree."""

    name: str
    messages: int
    outputs: int
    cpu_us: float
    rate: float
    steady: float
    rss_mb: float
    note: str = ""


@dataclass
class _Tree:
    """CPU seconds and peak memory of a process and its children, also of those that have ended."""

    root: psutil.Process
    cpu: dict[int, float] = field(default_factory=dict)
    peak: dict[int, int] = field(default_factory=dict)

    def sample(self) -> float:
        try:
            processes = [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            processes = []
        for process in processes:
            try:
                times = process.cpu_times()
                status = Path(f"/proc/{process.pid}/status").read_text()
            except (OSError, psutil.Error):
                continue
            self.cpu[process.pid] = times.user + times.system
            peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
            self.peak[process.pid] = int(peak)
        return sum(self.cpu.values())


async def measure(
    name: str,
    command: list[str],
    environment: dict[str, str],
    records: Records,
    messages: int,
    expected: int,
    work: Path,
    timeout: float = 240.0,
) -> Measured:
    """Run *command* until *records* says *expected*, it rests, or *timeout* seconds are over.

    The program writes the file ``$T0FILE`` when it has the first message in hand; the measurement
    begins there.
    """
    started = work / f"{name}.t0"
    started.unlink(missing_ok=True)
    with (work / f"{name}.log").open("wb") as stream:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, "T0FILE": str(started)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    tree = _Tree(psutil.Process(process.pid))
    try:
        return await _follow(name, process, tree, started, records, messages, expected, timeout)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _follow(
    name: str,
    process: subprocess.Popen[bytes],
    tree: _Tree,
    started: Path,
    records: Records,
    messages: int,
    expected: int,
    timeout: float,
) -> Measured:
    deadline = time.monotonic() + timeout
    while not started.exists() and process.poll() is None and time.monotonic() < deadline:
        tree.sample()
        await asyncio.sleep(0.005)
    cpu_before, began = tree.sample(), time.monotonic()
    growth: list[tuple[float, int]] = [(began, 0)]
    worked, outputs, cpu, rests = began, 0, cpu_before, False
    """When it last did something, and what it had written and used then."""
    while outputs < expected and not rests and process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(SAMPLE)
        used, count = tree.sample(), await records()
        growth.append((time.monotonic(), count))
        if count > outputs or used - cpu > RESTS * RESTING:
            worked, outputs, cpu = growth[-1][0], count, used
        rests = growth[-1][0] - worked > RESTS
    cpu -= cpu_before
    ended, share = worked, outputs / expected if expected else 0.0
    done = max(1.0, messages * share) if not rests else messages
    late = next(((t, n) for t, n in growth if n >= expected * 0.2), growth[0])
    steady = (outputs - late[1]) / max(1e-9, ended - late[0]) * messages / expected
    note = "" if outputs >= expected else f"{share:.1%} of the results"
    return Measured(
        name,
        messages,
        outputs,
        cpu * 1e6 / done,
        done / (ended - began),
        steady,
        sum(tree.peak.values()) / 1024,
        note,
    )
