"""``python -m benchmarks [w1 …] [--only NAME] [--messages N] [--json FILE]``; ``make bench`` runs all."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Measured, measure
from benchmarks.seeding import seed
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services import kafka

PROGRAMS = Path(__file__).parent / "programs"
PEERS = {"streamcore": 1_000_000, "quix": 1_000_000, "faust": 50_000}
"""Messages a program gets in W1: plain Faust needs a quarter of a millisecond for each."""


async def w1(bootstrap: str, names: Sequence[str], messages: int | None, partitions: int) -> list[Measured]:
    """W1 for each of *names* on topics of *partitions* partitions."""
    log = KafkaLog(KafkaConnection.parse(f"kafka://{bootstrap}"))
    found = []
    try:
        topics: dict[int, tuple[str, int]] = {}
        for name in names:
            count = messages or PEERS[name]
            if count not in topics:
                topic = f"w1-{count}-{uuid.uuid4().hex[:6]}"
                topics[count] = (topic, await seed(log, topic, count, partitions))
            found.append(await _one(log, bootstrap, name, count, *topics[count], partitions))
    finally:
        await log.close()
    return found


async def _one(
    log: KafkaLog, bootstrap: str, name: str, messages: int, topic: str, kept: int, partitions: int
) -> Measured:
    run = f"bench-{name}-{uuid.uuid4().hex[:6]}"
    output = f"{run}-out"
    await log.create(output, partitions, {"retention.ms": "-1"})
    with tempfile.TemporaryDirectory() as work:
        environment = {"BROKER": bootstrap, "IN": topic, "OUT": output, "GROUP": run, "WORK": work}
        command = [sys.executable, str(PROGRAMS / f"{name}_w1.py")]
        measured = await measure(name, command, environment, log, output, messages, kept, Path(work))
        if measured.note:
            print((Path(work) / f"{name}.log").read_text()[-2000:], file=sys.stderr)
        return measured


def show(title: str, results: Sequence[Measured]) -> None:
    """Print *results* as one table, with each one's cost relative to the first."""
    table = Table(title=title)
    for column in ("program", "CPU us/msg", "ratio", "msg/s", "steady msg/s", "peak RSS MB", "messages", ""):
        table.add_column(column, justify="left" if column in ("program", "") else "right")
    for r in results:
        ratio = r.cpu_us / results[0].cpu_us
        numbers = [f"{r.cpu_us:.2f}", f"{ratio:.1f}", f"{r.rate:,.0f}", f"{r.steady:,.0f}"]
        table.add_row(r.name, *numbers, f"{r.rss_mb:,.0f}", f"{r.messages:,}", r.note)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("what", nargs="?", default="w1", choices=["w1"])
    parser.add_argument("--only", action="append", choices=list(PEERS))
    parser.add_argument("--messages", type=int)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    server = kafka.start()
    try:
        results = asyncio.run(
            w1(server.bootstrap, given.only or list(PEERS), given.messages, given.partitions)
        )
    finally:
        server.close()
    show(f"W1, {given.partitions} partitions", results)
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in results], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
