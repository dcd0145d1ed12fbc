"""Two checkouts of streamcore side by side: how their latencies compare, whatever the machine's speed is.

The speed of shared machines moves by half within seconds, so runs one after the other can't be compared.
Here W1 of both checkouts runs at once, and the load goes to one and the other by turns of two seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cores import core_of_its_own
from benchmarks.workloads import KEEP, PEERS_PYTHON, PROGRAMS
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog

_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians of the turns' median latencies in milliseconds, their ratio turn by turn, and its error."""

    other: float
    this: float
    ratio: float
    error: float


async def beside(bootstrap: str, other: Path, python: str, rate: int, turns: int) -> Compared:
    """This checkout beside *other*, whose program *python* runs."""
    run = f"beside-{uuid.uuid4().hex[:6]}"
    log = KafkaLog(KafkaConnection.parse(f"kafka://{bootstrap}"))
    for name in ("other", "this"):
        for end in ("in", "out"):
            await log.create(f"{run}-{name}-{end}", 4, KEEP)
    await log.close()
    checkouts = [("other", other, python), ("this", PROGRAMS.parent.parent, sys.executable)]
    with ExitStack() as stack:
        put_there = stack.enter_context(core_of_its_own())
        for name, folder, by in checkouts:
            work = stack.enter_context(tempfile.TemporaryDirectory())
            topics = {"IN": f"{run}-{name}-in", "OUT": f"{run}-{name}-out", "GROUP": f"{run}-{name}"}
            given = {"BROKER": bootstrap, "WORK": work, "PYTHONPATH": str(folder), **topics}
            command = [by, str(folder / "benchmarks/programs/streamcore_w1.py")]
            program = subprocess.Popen(
                command, env={**os.environ, **given}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=put_there,
            )  # fmt: skip
            stack.callback(_end, program)
        pairs = ",".join(f"{run}-{name}-in>{run}-{name}-out" for name, _, _ in checkouts)
        medians = await asyncio.to_thread(_load, bootstrap, pairs, rate, turns)
    ratios = [this / that for that, this in medians]
    low, _, high = statistics.quantiles(ratios, n=4)
    error = 0.93 * (high - low) / len(ratios) ** 0.5  # of the median, by quartiles: some turns are far off
    others, these = zip(*medians, strict=True)
    return Compared(statistics.median(others), statistics.median(these), statistics.median(ratios), error)


def _load(bootstrap: str, pairs: str, rate: int, turns: int) -> Sequence[tuple[float, float]]:
    root = PROGRAMS.parent.parent
    given = {"BROKER": bootstrap, "TOPICS": pairs, "RATE": rate, "SECONDS": _SECONDS, "TURNS": turns}
    environment = {**os.environ, "PYTHONPATH": str(root), **{name: str(v) for name, v in given.items()}}
    command = [str(PEERS_PYTHON), str(PROGRAMS / "load_by_turns.py")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    medians: list[tuple[float, float]] = json.loads(done.stdout)
    return medians


def _end(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGTERM)
    program.wait(15)
