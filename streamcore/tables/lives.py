"""Which life of its key each row belongs to: judged row by row, computed in columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamcore.batch import Int64s
from streamcore.tables.grouping import Together


class Lives(NamedTuple):
    """``lives``: the life of each row; ``newest``: its newest time so far, also of the key's former lives.

    Both have the shape (rows,), in the rows' order. ``ended``: the places of the last rows of the lives that
    another one has followed.
    """

    lives: Int64s
    newest: Int64s
    ended: Int64s


def lives_of(keys: Together, times: Int64s, names: Int64s, ttl: int) -> Lives:
    """The lives of rows put together by *keys*: a row more than *ttl* after all before it begins another.

    *names* are what a life is called that the row begins. The newest time of all rows before it is that of
    those in its life: a life begins later than any row of the former one.
    """
    order, first = keys
    newest = _running_maximum(times[order], first)
    since = times[order] - np.where(first, times[order], np.roll(newest, 1))
    begins = first | (since > ttl)
    begun = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    named = names[order][begun]
    found = Lives(np.empty_like(named), np.empty_like(newest), np.roll(order, 1)[begins & ~first])
    found.lives[order], found.newest[order] = named, newest
    return found


def _running_maximum(times: Int64s, first: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Int64s:
    """The greatest of *times* up to each, anew from each *first* on."""
    values, ranks = np.unique(times, return_inverse=True)
    groups = np.cumsum(first) * len(values)  # so one group's are greater than those of the group before
    highest: Int64s = values[np.maximum.accumulate(groups + ranks) - groups]
    return highest
