"""``python -m tests.faults.chaos --minutes N``: fault runs on real servers, one after the other.

Each run is a line of the journal. The kind with the fewest runs is next, with a seed of its own, so a later
call goes on where this one stopped. Exit code 1 when a run of this call failed. On a machine that others
keep busy STREAMCORE_FAULT_PATIENCE=4 lets everything take four times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from tests.faults import runs
from tests.faults.kinds import KINDS, Kind
from tests.faults.nursery import Nursery
from tests.faults.planted import MISTAKES
from tests.faults.run import PATIENCE, Invalid
from tests.faults.servers import STARTS, Servers
from tests.faults.sinks import SINKS
from tests.services.install import cache_folder

_RUN_SECONDS = 240 * PATIENCE


def main() -> int:
    options = _options()
    kinds = [name for name in KINDS if any(word in name for word in options.kinds.split(","))]
    if not kinds:
        print(f"no such kind; there are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    failed = _runs(kinds, options) if options.minutes > 0 else 0
    records = [record for record in runs.read(options.journal) if record.kind in kinds]
    found = {record.kind for record in records}
    lines = runs.table(records, [name for name in kinds if name in found])
    note = "\n\n".join([runs.bound(records), runs.short(records, kinds), runs.commits(records)])
    print(runs.plain(runs.by_pipeline(records)), "", runs.plain(lines), "", note, sep="\n")
    if options.table:
        options.table.write_text(runs.markdown(lines, note))
    return 1 if failed else 0


def _runs(kinds: list[str], options: argparse.Namespace) -> int:
    """As many runs as there is time for; how many of them failed."""
    failed = 0
    signal.signal(signal.SIGTERM, _stop)  # so that the servers are ended
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients, while a broker is down
    with ExitStack() as stack:
        nursery = stack.enter_context(Nursery())
        servers = _servers(kinds, stack)
        commit, until = _commit(), time.monotonic() + 60 * options.minutes
        done = runs.read(options.journal)
        while time.monotonic() < until and not (options.runs and len(done) >= options.runs):
            name = next_kind(kinds, done)
            seed = 1000 + sum(record.kind == name for record in done)
            if options.seed is not None:
                seed = options.seed
            record = asyncio.run(_run(KINDS[name], seed, servers, nursery, commit, options))
            runs.append(options.journal, record)
            done.append(record)
            failed += bool(record.failures)
            _tell(record)
    return failed


def _servers(kinds: list[str], stack: ExitStack) -> Servers:
    """Those that *kinds* need, started; ended with *stack*."""
    wanted = {"kafka"} | {SINKS[KINDS[name].pipeline.sink].server for name in kinds} - {""}
    running: dict[str, Any] = {}
    for name in sorted(wanted):
        running[name] = STARTS[name]()
        stack.callback(running[name].close)
    return Servers(**running)


def next_kind(kinds: list[str], done: list[runs.Record]) -> str:
    """The kind with the fewest runs; an invalid one is repeated, and three of them count as a run."""
    thirds = Counter(dict.fromkeys(kinds, 0))
    for record in done:
        thirds[record.kind] += 1 if record.invalid else 3
    return min(kinds, key=lambda name: thirds[name] // 3)


def _stop(*_: object) -> NoReturn:
    sys.exit("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="no new run after so many; 0: the table only"
    )
    parser.add_argument("--runs", type=int, default=0, help="stop when the journal holds so many")
    parser.add_argument("--seed", type=int, help="run with this seed, e.g. to see a failure again")
    parser.add_argument("--planted", default="", choices=["", *MISTAKES], help="make this mistake on purpose")
    parser.add_argument("--kinds", default="", help="only kinds that hold one of these texts (a,b)")
    base = cache_folder().parent / "chaos"
    parser.add_argument("--journal", type=Path, default=base / "runs.jsonl", help=f"default in {base}")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    parser.add_argument(
        "--keep", type=Path, default=base / "failed", help="a folder for the logs and rows of failed runs"
    )
    return parser.parse_args()


async def _run(
    kind: Kind, seed: int, servers: Servers, nursery: Nursery, commit: str, options: argparse.Namespace
) -> runs.Record:
    began, kept = time.monotonic(), options.keep / f"{kind.name.replace(' ', '-')}-{seed}"
    try:
        outcome = await asyncio.wait_for(
            kind.run(seed, servers, nursery, options.planted, kept), _RUN_SECONDS
        )
    except Invalid as why:
        return runs.Record(kind.name, seed, commit, time.monotonic() - began, invalid=str(why))
    except asyncio.TimeoutError:
        late = (f"the run took longer than {_RUN_SECONDS:.0f} s",)
        return runs.Record(kind.name, seed, commit, time.monotonic() - began, failures=late)
    return runs.Record(
        kind.name,
        seed,
        commit,
        round(time.monotonic() - began, 2),
        failures=outcome.failures,
        restarts=outcome.restarts,
        causes=outcome.causes,
        kills=outcome.kills,
        rows=outcome.rows,
        recovery=[round(s, 2) for s in outcome.recovery],
    )


def _tell(record: runs.Record) -> None:
    verdict = f"INVALID {record.invalid}" if record.invalid else "; ".join(record.failures) or "kept"
    recovery = max(record.recovery, default=0)
    print(
        f"{record.kind} seed {record.seed}: {verdict} ({record.seconds:.1f} s, {record.rows} rows, "
        f"{record.kills} kills, {record.restarts} restarts, recovery {recovery:.1f} s)",
        *(f"    restart: {cause}" for cause in record.causes),
        sep="\n",
        flush=True,
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
