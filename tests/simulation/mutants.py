"""Mistakes put into streamcore on purpose: a simulation that does not catch them proves nothing.

Each is a way in which this code, or another of its kind, could really be wrong; the product knows nothing of
them. ``mutants.json`` has for each a seed that catches it; ``make sim-mutants`` looks for them anew.

Many are told as "not at rest": streamcore sees that something is amiss, and each worker ends with a
Permanent, again and again. A user would see a pipeline that stands still:

- trimmed_too_early: "its log has lost what was before its first record";
- mask_left_out, and wrong_minimum at times: "this batch does not follow the one before it", from the sink;
- wrong_minimum, log_resumed_at_its_farthest_partition, lost_append_forgotten, failures_confirmed: "the log
  has a hole".

Under results_given_again_are_held no worker ends: one waits for ever.

A patch must hold for the whole run. One that is undone behind an await stays for good where the process that
waits is killed: it then fails the runs that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.simulation import mutants_disk, mutants_lives, mutants_sinks, mutants_state
from tests.simulation.workers_world import FIRST_SHARP, SHARP_EACH
from tests.simulation.world import FIRST_WITH_MORE

Mistake = Callable[[], Iterator[Any]]

MISTAKES: dict[str, Mistake] = {
    function.__name__: function
    for function in (
        *mutants_sinks.MISTAKES,
        *mutants_state.MISTAKES,
        *mutants_disk.MISTAKES,
        *mutants_lives.MISTAKES,
    )
}
MOST_SEEDS = 200
"""Within so many seeds a mistake must be caught."""
AIMED_AT = {"dead_letters_not_known_again", "refused_by_anyone", "overlap_not_cut"}
"""What sharp worlds look for: within so many of them."""
RARE = {"numbers_of_cuts", "trimmed_past_the_sinks"}
"""What shows in one world of some hundreds: within three times as many."""


def seeds_for(name: str, most: int = MOST_SEEDS) -> range:
    """The seeds among which one is to catch the mistake *name*: later ones draw lives and standbys."""
    if name in AIMED_AT:
        return range(FIRST_SHARP, FIRST_SHARP + SHARP_EACH * most, SHARP_EACH)
    most *= 3 if name in RARE else 1
    first = 2 * FIRST_WITH_MORE if MISTAKES[name] in mutants_lives.MISTAKES else 0
    return range(first, first + most)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Commit the mistake *name* while the context is open; none when it is empty."""
    with ExitStack() as stack:
        for patch in MISTAKES[name]() if name else ():
            stack.enter_context(patch)
        yield
