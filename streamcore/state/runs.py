"""Pieces of state in few sorted frames, found by key: a log-structured merge tree of columns.

A run is one frame or several, sorted by ``_hash``, a hash of the pieces' keys; pieces of the same hash
stand older first. What comes is a run of its own, and runs of like size are merged, so that each piece is
copied a logarithmic number of times. A merge goes through ranges of hashes, of which it holds one at a
time, and makes a frame of each few: that is why a run has several, and why it may be larger than memory
(:mod:`streamcore.state.places`). Source: O'Neil et al., The Log-Structured Merge-Tree, Acta Informatica
1996, https://doi.org/10.1007/s002360050048

Hashes of different keys may be equal (1 in 2^64 for two keys): who looks for a key gets pieces that may
be another's, and compares the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import Int64s
from streamcore.state.places import MEMORY, Place

HASH = "_hash"
"""Hidden column of a run's frame. It stays within a process: another version may hash otherwise."""
FRAME_BYTES = 32 << 20
"""About how large a frame of a run gets: what a merge holds at once is a few times that."""
_MERGED_ROWS = 1 << 16
"""Rows that are merged at once: so many, with some columns, fit a processor's cache."""
_MOST_FRAMES = 64
"""Frames of a very large run get larger, so that there are not too many to look into."""
_SAMPLE = 4_096
"""Every so many rows a hash is looked at, to find ranges of like size."""
_TIMES_OLDEST, _TIMES_OTHER = 2.0, 0.5
"""A run is merged when it is at most so many times as large as all younger ones. The oldest one earlier:
it holds most of the keys, so what lies beside it repeats them, and takes space."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Merge = Callable[[pl.DataFrame], pl.DataFrame]
"""Merges pieces, which stand older first, to fewer; it may drop what is needed no more."""


@dataclass(frozen=True)
class Runs(Sequence[pl.DataFrame]):
    """The frames of all runs, older runs first; *place* says where large ones lie.

    Frames one after the other whose hashes ascend, and are not the same, are one run.
    """

    frames: tuple[pl.DataFrame, ...] = ()
    place: Place = MEMORY

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
    if (hashes[1:] >= hashes[:-1]).all():  # as a run is that was written by the same version
        return frame.with_columns(pl.Series(HASH, hashes))
    order = np.argsort(hashes, kind="stable")
    return frame.with_columns(pl.Series(HASH, hashes))[order]


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
    levels = _levels([*runs, piece] if piece.height else runs.frames)
    first = _first_merged([_height(level) for level in levels])
    kept = [frame for level in levels[:first] for frame in level]
    merging = [frame for level in levels[first:] for frame in level]
    if merging:
        kept += _merged(merging, merge if first or oldest is None else _both(merge, oldest), runs.place)
    elif piece.height:
        kept[-1:] = _merged([piece], oldest if len(kept) == 1 else None, runs.place)
    return replace(runs, frames=tuple(kept))


def compacted(runs: Runs, merge: Merge) -> Runs:
    """*runs* as one, with all pieces of each hash merged."""
    return replace(runs, frames=tuple(_merged(runs.frames, merge, runs.place)))


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


def _levels(frames: Sequence[pl.DataFrame]) -> list[list[pl.DataFrame]]:
    """The frames of each run."""
    levels: list[list[pl.DataFrame]] = []
    end = None
    for frame in frames:
        hashes = frame[HASH]
        if end is None or hashes[0] <= end:
            levels.append([])
        levels[-1].append(frame)
        end = hashes[-1]
    return levels


def _height(frames: Sequence[pl.DataFrame]) -> int:
    return sum(frame.height for frame in frames)


def _size(frames: Sequence[pl.DataFrame]) -> int:
    return sum(int(frame.estimated_size()) for frame in frames)


def _sized(runs: Runs) -> Iterator[tuple[pl.DataFrame, int]]:
    """Each frame, and about how many bytes its run has."""
    for level in _levels(runs.frames):
        size = _size(level)
        yield from ((frame, size) for frame in level)


def _first_merged(heights: Sequence[int]) -> int:
    """The oldest of the runs of these *heights* that is to be merged, with all younger ones."""
    younger, first = 0, len(heights)
    for number in range(len(heights) - 1, -1, -1):
        times = _TIMES_OTHER if number else _TIMES_OLDEST
        if heights[number] <= times * younger:
            first = number
        younger += heights[number]
    return first


def _both(merge: Merge, after: Merge) -> Merge:
    return lambda frame: after(merge(frame))


def _merged(frames: Sequence[pl.DataFrame], merge: Merge | None, place: Place) -> list[pl.DataFrame]:
    """One run of *frames*, older ones first."""
    made = Frames(place, _size(frames))
    for parts in _ranges(frames):
        part = pl.concat(parts, rechunk=True)
        made.add(part if merge is None else merge(part))
    return made.end()


class Frames:
    """Makes frames of a run, which has about *size* bytes, of small ones, and puts them in their *place*."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size = place, size
        place.making(size)
        self._most = max(FRAME_BYTES, size // _MOST_FRAMES)
        self._waiting: list[pl.DataFrame] = []
        self._waits = 0
        self._made: list[pl.DataFrame] = []

    def add(self, part: pl.DataFrame) -> None:
        """*part* follows what was added before it."""
        self._waiting.append(part)
        self._waits += int(part.estimated_size())
        if self._waits >= self._most:
            self._put()

    def end(self) -> list[pl.DataFrame]:
        """All frames; none is empty."""
        self._put()
        return self._made

    def _put(self) -> None:
        frame = pl.concat(self._waiting, rechunk=True) if self._waiting else None
        if frame is not None and frame.height:
            self._made.append(self._place.put(frame, self._size))
        self._waiting, self._waits = [], 0


def _ranges(frames: Sequence[pl.DataFrame]) -> Iterator[list[pl.DataFrame]]:
    """What *frames* have of each range of hashes, of which there are as many as makes them small."""
    count = -(-_height(frames) // _MERGED_ROWS)
    if count <= 1:
        yield from [list(frames)] if frames else []
        return
    hashes = [frame[HASH].to_numpy() for frame in frames]
    sample = np.sort(np.concatenate([own[_SAMPLE // 2 :: _SAMPLE] for own in hashes]))
    cuts = np.unique(sample[np.arange(1, count) * len(sample) // count])
    bounds = np.array([[0, *own.searchsorted(cuts), len(own)] for own in hashes])
    for starts, ends in pairwise(bounds.T.tolist()):
        parts = zip(frames, starts, ends, strict=True)
        if held := [frame[start:end] for frame, start, end in parts if start < end]:
            yield held


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
    wanted = np.sort(hashes)  # np.unique would hash them once more
    wanted = wanted[np.diff(wanted, prepend=~wanted[:1]) != 0]
    return [part for run in runs if (part := run[matches(run, wanted)[1]]).height]


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
