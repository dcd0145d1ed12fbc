"""Which rows pass when a key lets no second one pass for a while: judged row by row, computed in columns."""

from __future__ import annotations

import numpy as np

from streamcore.batch import Int64s

_BLOCK = 512
"""Rows judged at a time: a round looks at all undecided ones, and a busy key needs many rounds."""


def passing(keys: Int64s, times: Int64s, low: Int64s, high: Int64s, within: int) -> Int64s:
    """Places of the rows that pass, in order.

    Row *i* has the key ``keys[i]``, a place in *low* and *high*: it passes if ``times[i]`` is not in
    ``[low, high]`` of its key, and then this becomes its time, less and plus *within*. *low* and *high*
    are changed in place.

    Each round lets the next row of each key pass that has undecided ones. So there are as many rounds as
    the busiest key of a block has rows that pass.
    """
    passed = [np.zeros(0, np.int64)]
    for start in range(0, len(keys), _BLOCK):
        # By key, and each key's rows in their order: so a key's rows are neighbours in all rounds.
        rest = start + np.argsort(keys[start : start + _BLOCK], kind="stable")
        while len(rest):
            key, time = keys[rest], times[rest]
            free = np.flatnonzero((time > high[key]) | (time < low[key]))
            first = free[np.flatnonzero(np.diff(key[free], prepend=-1))]
            passed.append(rest[first])
            low[key[first]], high[key[first]] = time[first] - within, time[first] + within
            rest = rest[_behind(key, first)]
    return np.sort(np.concatenate(passed))


def _behind(keys: Int64s, first: Int64s) -> Int64s:
    """The places behind those of *first*, each up to the end of its key; *keys* are sorted."""
    steps = np.zeros(len(keys) + 1, np.int64)
    steps[first + 1] += 1
    steps[keys.searchsorted(keys[first], "right")] -= 1
    return np.flatnonzero(np.cumsum(steps[:-1]))
