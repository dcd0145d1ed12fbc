"""Pieces of state in few sorted frames, found by key: a log-structured merge tree of columns.

A run is a frame sorted by ``_hash``, a hash of its keys; pieces of the same hash stand older first.
What comes is a run of its own, and runs of like size are merged, so that each piece is copied a
logarithmic number of times. Source: O'Neil et al., The Log-Structured Merge-Tree, Acta Informatica 1996,
https://doi.org/10.1007/s002360050048

Hashes of different keys may be equal (1 in 2^64 for two keys): who looks for a key gets pieces that may
be another's, and compares the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import Int64s
from streamcore.state.operator import Runs

HASH = "_hash"
"""Hidden column of a run's frame. It stays within a process: another version may hash otherwise."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Merge = Callable[[pl.DataFrame], pl.DataFrame]
"""Merges pieces, which stand older first, to fewer; it may drop what is needed no more."""


def hashes_of(frame: pl.DataFrame, keys: Sequence[str]) -> Hashes:
    """The hash of each row's *keys*, shape (rows,); equal keys, also nulls, have equal ones."""
    if not keys:
        return np.zeros(frame.height, np.uint64)
    hashes: Hashes = frame.select(keys).hash_rows(seed=0).to_numpy()
    return hashes


def as_run(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """*frame* as a run: with ``_hash``, by which it is sorted; rows of the same hash keep their order."""
    hashes = hashes_of(frame, keys)
    order = np.argsort(hashes, kind="stable")
    return frame.with_columns(pl.Series(HASH, hashes))[order]


def rebuilt(kept: Sequence[Sequence[pl.DataFrame]], *keys: Sequence[str]) -> tuple[Runs, ...]:
    """Runs of what another process wrote, by this one's hashes of *keys*: those of each kind of piece."""
    return tuple(
        tuple(as_run(frame.drop(HASH, strict=False), by) for frame in runs if frame.height)
        for runs, by in zip(kept, keys, strict=True)
    )


def added(runs: Runs, piece: pl.DataFrame, merge: Merge) -> Runs:
    """*runs* and *piece*, younger than them; *merge* gets frames of which the older stands first."""
    kept = [*runs, piece] if piece.height else list(runs)
    while len(kept) > 1 and kept[-2].height <= 2 * kept[-1].height:
        younger, older = kept.pop(), kept.pop()
        kept.append(merge(pl.concat([older, younger])))
    return tuple(run for run in kept if run.height)


def matches(run: pl.DataFrame, hashes: Hashes) -> tuple[Int64s, Int64s]:
    """Places ``(i, j)`` with ``hashes[i]`` the hash of row *j* of *run*, by *i* and then *j*."""
    there: Hashes = run[HASH].to_numpy()
    lows, highs = there.searchsorted(hashes, "left"), there.searchsorted(hashes, "right")
    counts = highs - lows
    places = np.repeat(np.arange(len(hashes)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(places)) - np.repeat(ends - counts, counts)
    return places, lows[places] + within


def found(runs: Runs, hashes: Hashes) -> list[pl.DataFrame]:
    """The pieces of each run whose hash is among *hashes*, older runs first."""
    wanted = np.unique(hashes)
    return [part for run in runs if (part := run[matches(run, wanted)[1]]).height]


def merged_by(frame: pl.DataFrame, merge: Merge) -> pl.DataFrame:
    """*frame*, runs one after the other, as one run, with *merge* done in the order of the hashes.

    *merge* keeps ``_hash`` and the order of what it leaves.
    """
    order = np.argsort(frame[HASH].to_numpy(), kind="stable")  # of sorted runs: a merge, in linear time
    return merge(frame[order])
