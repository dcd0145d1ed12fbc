"""Groups of rows as numbers, for what numpy does faster or what polars can't say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import Int64s
from streamcore.state.runs import HASH, Hashes

PLACE = "_place"
"""A name that columns of keys can't have."""
GONE = "_gone"
"""Hidden column of a piece that hides older ones: its key has no row any more."""


def groups_of(frame: pl.DataFrame, by: Sequence[str]) -> Int64s:
    """For each row of *frame* the place of the first with its values of *by*, shape (rows,).

    Values are compared as polars groups them: nulls are equal, NaNs too, and -0.0 is 0.0. Without *by* all
    are one group.
    """
    if not by:
        return np.zeros(frame.height, np.int64)
    place = pl.col(PLACE).first().over(*by).cast(pl.Int64)
    places: Int64s = frame.select(by).with_row_index(PLACE).select(place)[PLACE].to_numpy()
    return places


class Together(NamedTuple):
    """Rows put together by group, each group's in their order: ``order`` are their places, shape (rows,).

    ``first``: which of them, in that order, are the first of their group.
    """

    order: Int64s
    first: npt.NDArray[np.bool_]

    @property
    def before(self) -> Int64s:
        """For each row, in the rows' own order, the place of the one before it in its group; -1 for none."""
        places = np.empty(len(self.order), np.int64)
        places[self.order] = np.where(self.first, -1, np.roll(self.order, 1))
        return places


def together(groups: Int64s) -> Together:
    """Rows by *groups*, as :func:`groups_of` gives them."""
    order = np.argsort(groups, kind="stable")
    return Together(order, np.diff(groups[order], prepend=-1) != 0)


def crowded(hashes: Hashes, places: int) -> npt.NDArray[np.bool_]:
    """Which of the sorted *hashes* are there more than *places* times, shape (rows,).

    When runs are merged, only those can have pieces that are needed no more.
    """
    if not len(hashes):
        return np.zeros(0, np.bool_)
    ends = np.append(np.flatnonzero(hashes[1:] != hashes[:-1]) + 1, len(hashes))
    lengths = np.diff(ends, prepend=0)
    many: npt.NDArray[np.bool_] = np.repeat(lengths > places, lengths)
    return many


def youngest(pieces: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The last of each key *by* of *pieces*, which are sorted by hash, older ones first."""
    hashes = pieces[HASH].to_numpy()
    older = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(older):
        return pieces
    keys, stays = pieces.select(by), np.ones(len(hashes), np.bool_)
    if keys[older].equals(keys[older + 1]):
        stays[older] = False
        return pieces.filter(pl.Series(stays))
    many = crowded(hashes, 1)  # equal hashes of different keys
    stays = ~many
    rivals = keys.with_row_index(PLACE).filter(pl.Series(many))
    stays[rivals.unique(by, keep="last")[PLACE].to_numpy()] = True
    return pieces.filter(pl.Series(stays))


def without_gone(oldest: pl.DataFrame) -> pl.DataFrame:
    """The pieces of the *oldest* run without those that have left: nothing older is hidden by them."""
    return oldest.filter(~pl.col(GONE))
