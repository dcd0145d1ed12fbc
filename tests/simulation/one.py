"""One seed: its world, what happened in it, and which promises it broke."""

from __future__ import annotations

import gc
import logging
import sys
import time
import warnings
from typing import NamedTuple

from tests.simulation.checks import broken
from tests.simulation.faust_world import FaustWorld
from tests.simulation.mutants import planted
from tests.simulation.power_world import PowerWorld
from tests.simulation.shapes import shown
from tests.simulation.workers_world import WorkersWorld
from tests.simulation.world import World


class Run(NamedTuple):
    """``told``: the promises that were broken, in words. ``story``: what happened. ``cpu`` in seconds."""

    seed: int
    told: list[str]
    story: str
    steps: int
    cpu: float


KINDS: dict[str, type[World]] = {"workers": WorkersWorld, "power": PowerWorld, "faust": FaustWorld}


def kind_of(seed: int) -> str:
    """Which kind of world a seed is."""
    return {2: "power", 6: "power", 9: "faust"}.get(seed % 10, "workers")


def run_seed(seed: int, *, mutant: str = "", calm: bool = False, log: bool = False) -> Run:
    """Let the world of *seed* happen, with a mistake planted or not, and look at it."""
    logging.basicConfig(level=logging.INFO if log else logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    began = time.process_time()
    gc.disable()  # what dead processes have left is collected behind each run, and complains
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)
    with planted(mutant):
        world = KINDS[kind_of(seed)](seed, faults=not calm)
        try:
            told = _happened(world)
            steps = sum(process.steps for process in world.loop.processes)
            about = f"{shown(world.branches, world.feed)}, {world.loop.now:.1f} virtual seconds"
            digest = f"digest {world.network.trace.hexdigest()[:16]}"
            story = "\n".join([f"seed {seed}: {about}", *world.events, digest])
            return Run(seed, told, story, steps, time.process_time() - began)
        finally:
            world.close()


def run_with_mutant(named: tuple[str, int]) -> Run:
    """:func:`run_seed` of a pair (mistake, seed)."""
    return run_seed(named[1], mutant=named[0])


def _happened(world: World) -> list[str]:
    try:
        world.run()
    except Exception as error:
        return [f"{type(error).__name__}: {error}", *world.errors]
    return list(world.errors) or broken(world)
