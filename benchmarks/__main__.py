"""``python -m benchmarks [PART]``, with one of the parts that ``--help`` names; or all."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.beside import beside
from benchmarks.chunks import chunks
from benchmarks.keys import COUNTS, by_keys
from benchmarks.keys import MESSAGES as KEYED_MESSAGES
from benchmarks.measuring import Measured
from benchmarks.nexmark import nexmark
from benchmarks.replays import replays
from benchmarks.takeovers import takeovers
from benchmarks.workloads import MESSAGES, NOTHING, latency, throughput
from tests.services import kafka

RATE = 10_000
ONE_CORE = ["formats", "operators", "states", "pipelines"]
"""Modules of their own, in which polars has one core, as in a worker."""
CONNECTORS = ["sinks", "sources", "objects", "mongodb", "redis", "letters"]
"""Modules of their own beside the systems' own clients, on servers that they start."""
OTHERS = ["partitions", "keys", "latency", "replay", "chunks", "nexmark", "takeover", *ONE_CORE, *CONNECTORS]


def show(title: str, results: Sequence[Measured]) -> None:
    """Print *results* as one table, with each one's cost relative to the first."""
    table = Table(title=title)
    for column in ("program", "CPU us/msg", "ratio", "msg/s", "steady msg/s", "peak RSS MB", "messages", ""):
        table.add_column(column, justify="left" if column in ("program", "") else "right", no_wrap=True)
    for r in results:
        ratio = r.cpu_us / results[0].cpu_us
        numbers = [f"{r.cpu_us:.2f}", f"{ratio:.1f}", f"{r.rate:,.0f}", f"{r.steady:,.0f}"]
        table.add_row(r.name, *numbers, f"{r.rss_mb:,.0f}", f"{r.messages:,}", r.note)
    Console(width=140).print(table)


def show_queries(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print what each of Nexmark's queries costs, and how much more than the first."""
    table = Table(title="Nexmark, embedded replays of JSON lines to Parquet")
    for column in ("query", "CPU us/event", "ratio", "events/s", "peak RSS MB", "rows out"):
        table.add_column(column, justify="left" if column == "query" else "right", no_wrap=True)
    base = next(iter(found.values()))["cpu"]
    for query, r in found.items():
        cost, rate = r["cpu"] * 1e6 / r["rows_in"], r["rows_in"] / r["seconds"]
        numbers = [f"{cost:.2f}", f"{r['cpu'] / base:.1f}", f"{rate:,.0f}", f"{r['rss_mb']:,.0f}"]
        table.add_row(query, *numbers, f"{r['rows_out']:,.0f}")
    Console(width=140).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("what", nargs="?", default="all", choices=["all", "w1", "w2", *OTHERS])
    parser.add_argument("--only", action="append", choices=[*MESSAGES, NOTHING], help="this program only")
    parser.add_argument("--messages", type=int, help="messages in W1, W2 and behind the keys")
    parser.add_argument("--keys", action="append", type=int, help="keys in the state; may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="of each in W1 and W2; the median is shown")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=int, default=RATE, help="messages a second for the latency")
    parser.add_argument("--turns", type=int, default=1, help="of all programs in the latency")
    parser.add_argument("--beside", type=Path, help="latency: by turns with W1 of this other checkout")
    parser.add_argument("--by", default=sys.executable, help="the python that runs the other checkout's")
    parser.add_argument("--uneven", action="store_true", help="W1, W2: two thirds in one partition")
    parser.add_argument("--repeat", type=int, default=15, help="times 200,000 flights in the replay")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in Nexmark")
    parser.add_argument("--state", type=int, default=300, help="MB of state that is taken over")
    parser.add_argument("--json", type=Path, help="write the results here too")
    given = parser.parse_args()
    if NOTHING in (given.only or []) and given.what != "latency":
        parser.error(f"--only {NOTHING} is for the latency")
    if given.beside and (given.what != "latency" or given.turns < 2):
        parser.error("--beside is for the latency, with two --turns or more")
    results: dict[str, object] = {}
    if given.what not in ("replay", "chunks", "nexmark", *ONE_CORE, *CONNECTORS):
        server = kafka.from_environment() or kafka.start(early=False)
        try:
            results = asyncio.run(_on_kafka(server.bootstrap, given))
        finally:
            server.close()
    if given.what in ("all", "replay"):
        results["replay"] = found = replays(given.repeat)
        ratio = found["streamcore"]["seconds"] / found["polars"]["seconds"]
        rows = found["streamcore"]["rows"]
        print(
            f"replay of {rows:,.0f} flights: streamcore {found['streamcore']['seconds']:.2f} s "
            f"({rows / found['streamcore']['seconds'] / 1e6:.2f} M rows/s, "
            f"peak RSS {found['streamcore']['rss_mb']:.0f} MB), "
            f"plain polars {found['polars']['seconds']:.2f} s, ratio {ratio:.1f}"
        )
    if given.what in ("all", "chunks"):
        results["chunks"] = costs = chunks()
        for name, value in costs.items():
            print(f"{name}: {value}")
    if given.what in ("all", "nexmark"):
        results["nexmark"] = queries = nexmark(given.events)
        show_queries(queries)
    for name in (*ONE_CORE, *CONNECTORS):
        if given.what in ("all", name):
            environment = {**os.environ, **({"POLARS_MAX_THREADS": "1"} if name in ONE_CORE else {})}
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], env=environment, check=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    return 0


async def _on_kafka(bootstrap: str, given: argparse.Namespace) -> dict[str, object]:
    results: dict[str, object] = {}
    names = given.only or list(MESSAGES)
    for workload in ("w1", "w2"):
        if given.what in ("all", workload):
            load = (workload, names, given.messages, given.partitions, given.runs)
            found = await throughput(bootstrap, *load, uneven=given.uneven)
            uneven = ", two thirds in one" if given.uneven else ""
            show(
                f"{workload.upper()}, {given.partitions} partitions{uneven}, median of {given.runs} runs",
                found,
            )
            results[workload] = [asdict(r) for r in found]
    if given.what in ("all", "partitions"):
        found = [
            (await throughput(bootstrap, "w1", ["streamcore"], given.messages, count, 3))[0]
            for count in (1, 4, 16, 64)
        ]
        show("W1 by partitions", found)
        results["partitions"] = [asdict(r) for r in found]
    if given.what in ("all", "keys"):
        counts = given.keys or COUNTS
        kept = await by_keys(bootstrap, counts, given.messages or KEYED_MESSAGES, given.partitions)
        for each in kept:
            print(
                f"{each.keys:,} keys: {each.cpu_us:.2f} us a message, {each.rate:,.0f} a second, "
                f"loop held up for {each.longest:.2f} s at most, peak RSS {each.rss_mb:,.0f} MB"
                f"{' within a limit of 1 GB' if each.limited else ''}"
            )
        results["keys"] = [asdict(each) for each in kept]
    if given.beside:
        compared = await beside(bootstrap, given.beside.resolve(), given.by, given.rate, given.turns)
        print(
            f"medians of {given.turns} turns: p50 {compared.this:.2f} ms, that of {given.beside} "
            f"{compared.other:.2f}; ratio by turns {compared.ratio:.3f} +- {compared.error:.3f}"
        )
        return {"beside": asdict(compared)}
    # With "all" the broker is warm by now; a cold one doubles the first program's.
    if given.what == "latency":
        await latency(bootstrap, names[0], given.rate, 20, 8)
    if given.what in ("all", "latency"):
        results |= await _latencies(bootstrap, [n for n in names if n != "faust"], given)
    if given.what in ("all", "takeover"):
        away = await takeovers(bootstrap, given.state)
        for one in away:
            print(
                f"{given.state} MB of state {one.way}: first row out {one.seconds:.1f} s after kill -9, "
                f"{one.records:,} records of the log read"
            )
        results["takeover"] = [asdict(one) for one in away]
    return results


async def _latencies(bootstrap: str, names: list[str], given: argparse.Namespace) -> dict[str, object]:
    """By turns, since the machine's speed moves; the figures of each turn, and their medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(given.turns):
        for name in names:
            got = await latency(bootstrap, name, given.rate, 20, 8)
            print(f"latency at {given.rate:,}/s, {name}: {_told(got)}", flush=True)
            found[name].append(got)
    medians = {
        name: {key: median(got[key] for got in all_) for key in all_[0]} for name, all_ in found.items()
    }
    if given.turns > 1:
        for name, got in medians.items():
            print(f"median of {given.turns} turns, {name}: {_told(got)}")
    return {f"latency {name}": got for name, got in medians.items()}


def _told(got: dict[str, float]) -> str:
    return (
        f"p50 {got['p50']:.1f} ms, p99 {got['p99']:.1f} ms, max {got['max']:.0f} ms, "
        f"{got['arrived']:,.0f} of {got['sent']:,.0f} arrived, {got['cores']:.2f} cores, "
        f"machine's loop {got['pace']:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
