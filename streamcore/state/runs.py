"""Pieces of state in few sorted frames, found by key: a log-structured merge tree of columns.

A run is one frame or several, sorted by ``_hash``, a hash of the pieces' keys; pieces of the same hash
stand older first. What comes is a run of its own, and runs are merged (:mod:`streamcore.state.merging` says
which, and when). A merge goes through ranges of hashes, of which it holds one at a time, and makes a frame
of each few: that is why a run has several, and why it may be larger than memory
(:mod:`streamcore.state.places`). Source: O'Neil et al., The Log-Structured Merge-Tree, Acta Informatica
1996, https://doi.org/10.1007/s002360050048

Hashes of different keys may be equal (1 in 2^64 for two keys): who looks for a key gets pieces that may
be another's, and compares the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import polars as pl

from streamcore.batch import Int64s
from streamcore.state.merging import HASH as HASH
from streamcore.state.merging import Frames as Frames
from streamcore.state.merging import Hashes as Hashes
from streamcore.state.merging import Merge as Merge
from streamcore.state.merging import levels_of, merged, size_of, with_piece
from streamcore.state.places import MEMORY, Place


@dataclass(frozen=True)
class Runs(Sequence[pl.DataFrame]):
    """The frames of all runs, older runs first; *place* says where large ones lie.

    Frames one after the other whose hashes ascend, and are not the same, are one run. The next frame of the
    oldest one to be merged is that from the hash *swept* on.
    """

    frames: tuple[pl.DataFrame, ...] = ()
    place: Place = MEMORY
    swept: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> pl.DataFrame: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[pl.DataFrame, ...]: ...

    def __getitem__(self, index: int | slice) -> pl.DataFrame | tuple[pl.DataFrame, ...]:
        return self.frames[index]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return iter(self.frames)


def hashes_of(frame: pl.DataFrame, keys: Sequence[str]) -> Hashes:
    """The hash of each row's *keys*, shape (rows,); equal keys, also nulls, have equal ones."""
    if not keys:
        return np.zeros(frame.height, np.uint64)
    hashes: Hashes = frame.select(keys).hash_rows(seed=0).to_numpy()
    return hashes


def as_run(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """*frame* as a run: with ``_hash``, by which it is sorted; rows of the same hash keep their order."""
    hashes = hashes_of(frame, keys)
    hashed = frame.with_columns(pl.Series(HASH, hashes))
    if (hashes[1:] >= hashes[:-1]).all():  # as a run is that was written by the same version
        return hashed
    return hashed.sort(HASH, maintain_order=True)  # numpy takes twice as long for hashes in no order


def rebuilt(kept: Sequence[Sequence[pl.DataFrame]], *keys: Sequence[str]) -> tuple[Runs, ...]:
    """Runs of what another process wrote, by this one's hashes of *keys*: those of each kind of piece."""
    return tuple(
        Runs(tuple(as_run(frame.drop(HASH, strict=False), by) for frame in runs if frame.height))
        for runs, by in zip(kept, keys, strict=True)
    )


# ------------------------------------------------------------ what is added, merged and dropped


def added(runs: Runs, piece: pl.DataFrame, merge: Merge, oldest: Merge | None = None) -> Runs:
    """*runs* and *piece*, younger than them.

    *merge* gets frames of which the older stands first, with all pieces that the runs which are merged have
    of some hashes. *oldest* is done to what it leaves where no older run is.
    """
    made = with_piece(runs.frames, piece, runs.swept, runs.place, merge, oldest)
    return replace(runs, frames=made.frames, swept=made.swept)


def compacted(runs: Runs, merge: Merge) -> Runs:
    """*runs* as one, with all pieces of each hash merged."""
    return replace(runs, frames=tuple(merged(runs.frames, merge, runs.place, size_of(runs.frames))))


def forgotten(runs: Runs, gone: pl.Expr) -> Runs:
    """*runs* without rows of which *gone* is true: those of frames where half of them or more are.

    So no more is copied than forgotten. *gone* must be true for good of what it is true of.
    """
    kept: list[pl.DataFrame] = []
    for frame, size in _sized(runs):
        lost = frame.select(gone.sum()).item() or 0
        if 2 * lost >= frame.height:
            frame = runs.place.put(frame.filter(~gone), size) if lost < frame.height else frame.clear()
        kept.append(frame)
    return replace(runs, frames=tuple(frame for frame in kept if frame.height))


def taken(runs: Runs, done: pl.Expr) -> tuple[Runs, list[pl.DataFrame]]:
    """*runs* without the rows of which *done* is true, and these, older runs first."""
    kept: list[pl.DataFrame] = []
    found: list[pl.DataFrame] = []
    for frame, size in _sized(runs):
        rows = frame.filter(done)
        if rows.height:
            found.append(rows)
            frame = runs.place.put(frame.filter(~done), size) if rows.height < frame.height else frame.clear()
        kept.append(frame)
    return replace(runs, frames=tuple(frame for frame in kept if frame.height)), found


def _sized(runs: Runs) -> Iterator[tuple[pl.DataFrame, int]]:
    """Each frame, and about how many bytes its run has."""
    for level in levels_of(runs.frames):
        size = size_of(level)
        yield from ((frame, size) for frame in level)


# ------------------------------------------------------------ what is found


def matches(run: pl.DataFrame, hashes: Hashes) -> tuple[Int64s, Int64s]:
    """Places ``(i, j)`` with ``hashes[i]`` the hash of row *j* of *run*, by *i* and then *j*.

    *hashes* ascend.
    """
    there: Hashes = run[HASH].to_numpy()
    if not len(there):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begin, end = hashes.searchsorted(there[0], "left"), hashes.searchsorted(there[-1], "right")
    lows = there.searchsorted(hashes[begin:end], "left")
    hit = np.flatnonzero(there[lows] == hashes[begin:end])
    places, lows = hit + begin, lows[hit]
    if not (there[np.minimum(lows + 1, len(there) - 1)] == hashes[places]).any():  # the last is itself
        return places, lows
    counts = there.searchsorted(hashes[places], "right") - lows
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(places, counts), np.repeat(lows, counts) + within


def found(runs: Runs, hashes: Hashes) -> list[pl.DataFrame]:
    """The pieces of each run whose hash is among *hashes*, older runs first."""
    wanted = hashes
    if not (hashes[1:] > hashes[:-1]).all():  # as a run's are, if its pieces are of different keys
        wanted = np.sort(hashes)  # np.unique would hash them once more
        wanted = wanted[np.diff(wanted, prepend=~wanted[:1]) != 0]
    parts: list[pl.DataFrame] = []
    for run in runs:
        runs.place.trim()
        if (part := run[matches(run, wanted)[1]]).height:
            parts.append(part)
    return parts


def merged_by(frame: pl.DataFrame, merge: Merge) -> pl.DataFrame:
    """*frame*, runs one after the other, as one run, with *merge* done in the order of the hashes.

    *merge* keeps ``_hash`` and the order of what it leaves.
    """
    order = np.argsort(frame[HASH].to_numpy(), kind="stable")  # of sorted runs: a merge, in linear time
    return merge(frame[order])


def folded(frame: pl.DataFrame, fold: Merge) -> pl.DataFrame:
    """*frame*, sorted by hash, with *fold* done to the pieces that are not alone with their hash.

    *fold* must leave a single piece of a key as it is; it keeps ``_hash`` and the order.
    """
    hashes = frame[HASH].to_numpy()
    same = hashes[1:] == hashes[:-1]
    many = np.zeros(len(hashes), np.bool_)
    if not same.any():
        return frame
    many[1:] = same
    many[:-1] |= same
    if 4 * np.count_nonzero(many) > 3 * len(many):  # sorting them in again would cost more than it saves
        return fold(frame)
    some = pl.Series(many)
    return merged_by(pl.concat([frame.filter(~some), fold(frame.filter(some))]), lambda whole: whole)
