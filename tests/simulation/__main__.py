"""Run simulated worlds: see ``make sim`` and ``make sim-mutants``.

The order of sets of texts depends on PYTHONHASHSEED, so a seed is the same only where that is 0: this
program starts itself again for that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from tests.simulation import mutants_disk
from tests.simulation.mutants import MISTAKES, MOST_SEEDS, seeds_for
from tests.simulation.one import KINDS, Run, kind_of, run_seed, run_with_mutant

CATCHING = Path(__file__).with_name("mutants.json")
_LINES = 100
"""Runs between two lines on how far it is, where there is no terminal."""
_BROKEN = ("TypeError", "AttributeError", "NameError", "ImportError", "AssertionError")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one only, with what happened")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--mutants", choices=["search", "replay"])
    parser.add_argument("--most", type=int, default=MOST_SEEDS, help="with --mutants: so many seeds each")
    parser.add_argument("--mutant", default="", help="with this mistake planted")
    parser.add_argument("--calm", action="store_true", help="without faults")
    parser.add_argument("--log", action="store_true", help="with --seed: the workers' own log")
    parser.add_argument("--kind", choices=list(KINDS), help="seeds of this kind of world only")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        run = run_seed(options.seed, mutant=options.mutant, calm=options.calm, log=options.log)
        print(run.story)
        print("\n".join(run.told) or "held")
        return bool(run.told)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        if options.mutants:
            return _search(pool, options.most) if options.mutants == "search" else _replay(pool)
        seeds = list(islice(_of_kind(options.kind, options.first), options.runs))
        work = partial(run_seed, mutant=options.mutant, calm=options.calm)
        return _seeds(pool.map(work, seeds, chunksize=5), len(seeds))


def _of_kind(kind: str | None, first: int) -> Iterator[int]:
    return (seed for seed in count(first) if kind in (None, kind_of(seed)))


def _seeds(runs: Iterable[Run], wanted: int) -> int:
    began, cpu, failed, steps, done = time.monotonic(), 0.0, 0, 0, 0
    for run in runs:
        done, cpu, steps = done + 1, cpu + run.cpu, steps + run.steps
        if run.told:
            failed += 1
            print(f"seed {run.seed} failed: {run.told[0][:400]}", flush=True)
            print(f"  {run.story.splitlines()[0]}\n  again: make sim SEED={run.seed}", flush=True)
        if sys.stdout.isatty() and done % 10 == 0:
            print(f"\r{done} of {wanted} runs, {failed} failed", end="\r", flush=True)
        elif done % _LINES == 0 and done < wanted:
            print(f"{done} of {wanted} runs up to seed {run.seed}, {failed} failed", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{done} runs, {failed} failed; {steps} steps of workers, {cpu / max(done, 1):.2f} s CPU a run, "
        f"{seconds:.0f} s in all"
    )
    if done and not failed:
        print(f"with 95 % confidence fewer than {3 / done:.2%} of such worlds fail (rule of three)")
    return bool(failed)


def _search(pool: ProcessPoolExecutor, most: int) -> int:
    """Find for each mistake a seed that catches it: the known one, or the first one that does."""
    known: dict[str, int] = json.loads(CATCHING.read_text()) if CATCHING.exists() else {}
    found: dict[str, int] = {}
    for name in MISTAKES:
        caught = _caught(pool, name, known.get(name), most)
        if caught is None:
            print(f"{name}: not caught within {most} seeds", flush=True)
            continue
        found[name] = caught.seed
        CATCHING.write_text(json.dumps({**known, **found}, indent=2) + "\n")
        print(f"{name}: caught by seed {caught.seed}: {caught.told[0][:200]}", flush=True)
    CATCHING.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{len(found)} of {len(MISTAKES)} mistakes caught")
    return _without(pool, found.values()) | (len(found) < len(MISTAKES))


def _caught(pool: ProcessPoolExecutor, name: str, known: int | None, most: int) -> Run | None:
    work = partial(run_seed, mutant=name)
    if known is not None and _is_caught(run := pool.submit(work, known).result()):
        return run
    disk = MISTAKES[name] in mutants_disk.MISTAKES  # what others than those with a disk can't show
    seeds = [seed for seed in seeds_for(name, most) if not disk or kind_of(seed) != "workers"]
    for first in range(0, len(seeds), 6):
        runs = pool.map(work, seeds[first : first + 6])
        if (caught := next((run for run in runs if _is_caught(run)), None)) is not None:
            return caught
    return None


def _is_caught(run: Run) -> bool:
    """Whether a promise was broken; a mistake that does not fit the code any more only breaks itself."""
    return bool(run.told) and not any(name in text for text in run.told for name in _BROKEN)


def _replay(pool: ProcessPoolExecutor) -> int:
    """The catching seeds again, each with its mistake, and then, in the same processes, without it."""
    caught = json.loads(CATCHING.read_text())
    runs = list(pool.map(run_with_mutant, caught.items()))
    missed = [name for name, run in zip(caught, runs, strict=True) if not _is_caught(run)]
    for name in missed:
        print(f"{name} is not caught by seed {caught[name]} any more: make sim-mutants finds another")
    print(f"{len(caught) - len(missed)} of {len(caught)} mistakes caught")
    return bool(missed) | _without(pool, caught.values())


def _without(pool: ProcessPoolExecutor, seeds: Iterable[int]) -> bool:
    """Whether one of *seeds* fails without a mistake: it shows nothing, or a mistake is still planted."""
    failed = [run for run in pool.map(run_seed, sorted(set(seeds))) if run.told]
    for run in failed:
        print(f"seed {run.seed} fails without a mistake too: {run.told[0][:200]}")
    return bool(failed)


def _again() -> Iterator[str]:
    yield from (sys.executable, "-m", "tests.simulation", *sys.argv[1:])


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, list(_again()), os.environ | _ENVIRONMENT)
    sys.exit(main(sys.argv[1:]))
