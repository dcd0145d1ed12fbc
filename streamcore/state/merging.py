"""When runs of state are merged, and how much of them at once: so much that no batch waits long for it.

A run is one frame or several, sorted by ``_hash``; frames one after the other whose hashes ascend, and are
not the same, are one run. See :mod:`streamcore.state.runs` for what lies in them.

- **Small runs** are merged whole: a run with all younger ones when it is at most half as large as they are,
  as long as all of them together have at most ``_AT_ONCE`` rows (or a 16th of the largest run's, so that
  there are never too many to look into). So each piece is copied a logarithmic number of times.
- **The oldest run**, which has most of the keys, is swept: while the younger ones have more than a quarter of
  its rows, one of its frames is merged with what they have of that frame's range of hashes, then the next,
  and after the last one the first again. A call merges as many rows as the piece that it adds has, times a
  constant, or one frame.

In between all is as runs are: what was merged stands in the oldest run, the rest in the younger ones, and
who looks for a key finds the same pieces. How far the sweep is, is part of the state, and no more than a
hint: from any other place it would do as well.

Sources: O'Neil et al., The Log-Structured Merge-Tree, Acta Informatica 1996,
https://doi.org/10.1007/s002360050048 (the sweep is their rolling merge); tiers below one level: Dayan and
Idreos, Dostoevsky, SIGMOD 2018, https://doi.org/10.1145/3183713.3196927
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.state.places import Place

HASH = "_hash"
"""Hidden column of a run's frame. It stays within a process: another version may hash otherwise."""
FRAME_BYTES = 16 << 20
"""About how large a frame of a run gets: what a merge holds at once is a few times that."""
_MERGED_ROWS = 1 << 16
"""Rows that are merged at once: so many, with some columns, fit a processor's cache."""
_MOST_FRAMES = 64
"""Frames of a very large run get larger, so that there are not too many to look into."""
_SAMPLE = 4_096
"""Every so many rows a hash is looked at, to find ranges of like size."""
_AT_ONCE, _AT_ONCE_PART = 1 << 19, 16
"""Runs are merged whole when they have so many rows, or this part of the oldest run's."""
_TIMES_OLDEST, _TIMES_OTHER = 2.0, 0.5
"""A run is merged when it is at most so many times as large as all younger ones. The oldest one earlier:
it holds most of the keys, so what lies beside it repeats them, and takes space."""
_YOUNG = 4
"""The oldest run is swept when it has at most so many times the rows of all others."""
_WORTH = 8
"""Frames of it are left out that have more than so many times the rows which would come to them."""
_ROWS_SWEPT = 8
"""Rows that a call may merge for each one that it adds, before it begins with one more frame: a sweep needs
some 3 of them, 5 where it begins."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Merge = Callable[[pl.DataFrame], pl.DataFrame]
"""Merges pieces, which stand older first, to fewer; it may drop what is needed no more."""


class Merged(NamedTuple):
    """Frames, older runs first, and the hash at which the sweep of the oldest one goes on."""

    frames: tuple[pl.DataFrame, ...]
    swept: int


def with_piece(
    frames: Sequence[pl.DataFrame],
    piece: pl.DataFrame,
    swept: int,
    place: Place,
    merge: Merge,
    oldest: Merge | None,
) -> Merged:
    """*frames* and the run *piece*, merged as far as is due now; the rest as for ``runs.added``."""
    last = merge if oldest is None else _both(merge, oldest)
    levels = levels_of([*frames, piece] if piece.height else frames)
    most = max(_AT_ONCE, max(map(height_of, levels), default=0) // _AT_ONCE_PART)
    first = _first_merged([height_of(level) for level in levels], most)
    rows = _ROWS_SWEPT * piece.height
    if first < len(levels):
        merging = [frame for level in levels[first:] for frame in level]
        size, rows = size_of(merging), rows - height_of(merging)
        if first and 3 * height_of(merging) > most:  # it stays as it is from now on, beside others like it
            size = sum(map(size_of, levels[1:]))
        levels[first:] = [merged(merging, merge if first else last, place, size)]
    elif piece.height:
        made = merged([piece], oldest if len(frames) == 0 else None, place, size_of([piece]))
        levels[-1][-1:] = made
    if sum(map(height_of, levels)) <= most:
        return Merged(tuple(frame for level in levels for frame in level), swept)
    return _swept(levels, rows, swept, place, last)


def levels_of(frames: Sequence[pl.DataFrame]) -> list[list[pl.DataFrame]]:
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


def height_of(frames: Sequence[pl.DataFrame]) -> int:
    """How many rows *frames* have."""
    return sum(frame.height for frame in frames)


def size_of(frames: Sequence[pl.DataFrame]) -> int:
    """About how many bytes *frames* have."""
    return sum(int(frame.estimated_size()) for frame in frames)


def _first_merged(heights: Sequence[int], most: int) -> int:
    """The oldest of the runs of these *heights* that is to be merged, with all younger ones."""
    younger, first = 0, len(heights)
    for number in range(len(heights) - 1, -1, -1):
        if heights[number] + younger > most:
            break
        times = _TIMES_OTHER if number else _TIMES_OLDEST
        if heights[number] <= times * younger:
            first = number
        younger += heights[number]
    return first


def _both(merge: Merge, after: Merge) -> Merge:
    return lambda frame: after(merge(frame))


# ------------------------------------------------------------ the sweep of the oldest run


def _swept(
    levels: Sequence[Sequence[pl.DataFrame]], rows: int, swept: int, place: Place, merge: Merge
) -> Merged:
    """The frames of *levels* after so many steps of the sweep as merge *rows* rows or a few more."""
    oldest, young = list(levels[0]), [frame for level in levels[1:] for frame in level]
    while rows > 0 and oldest and _YOUNG * height_of(young) > height_of(oldest):
        start, end = _due(oldest, young, swept)
        low = oldest[start][HASH][0] if start else 0
        high = oldest[end][HASH][0] if end < len(oldest) else None
        came, young = _cut_out(young, low, high)
        merging = [*oldest[start:end], *came]
        rows -= height_of(merging)
        oldest[start:end] = merged(merging, merge, place, size_of(oldest))
        swept = high or 0
    return Merged((*oldest, *young), swept)


def _due(oldest: Sequence[pl.DataFrame], young: Sequence[pl.DataFrame], swept: int) -> tuple[int, int]:
    """Which frames of the *oldest* run are merged now, from one to before another: the next from *swept* on
    for which it is worth while; small ones together.

    There is one, since *young* has more of all together than is asked of one.
    """
    heights = np.array([frame.height for frame in oldest])
    bounds = np.array([frame[HASH][0] for frame in oldest[1:]], np.uint64)
    coming = np.zeros(len(oldest), np.int64)
    for frame in young:
        coming += np.diff(frame[HASH].to_numpy().searchsorted(bounds), prepend=0, append=frame.height)
    first = 0 if swept == 0 else 1 + int(bounds.searchsorted(np.uint64(swept)))
    worth = np.roll(_WORTH * coming >= heights, -first)
    start = (first + int(worth.argmax())) % len(oldest)
    end, least = start + 1, _frame_bytes(size_of(oldest)) // 2
    while end < len(oldest) and size_of(oldest[start:end]) < least:
        end += 1
    return start, end


def _cut_out(
    frames: Sequence[pl.DataFrame], low: int, high: int | None
) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
    """What *frames* have of the hashes from *low* to before *high* (None: to the end), and the rest."""
    cut: list[pl.DataFrame] = []
    rest: list[pl.DataFrame] = []
    for frame in frames:
        hashes = frame[HASH].to_numpy()
        start = int(hashes.searchsorted(np.uint64(low)))
        end = frame.height if high is None else int(hashes.searchsorted(np.uint64(high)))
        cut.append(frame[start:end])
        rest += [frame[:start], frame[end:]]
    return [frame for frame in cut if frame.height], [frame for frame in rest if frame.height]


# ------------------------------------------------------------ one merge


def merged(
    frames: Sequence[pl.DataFrame], merge: Merge | None, place: Place, size: int
) -> list[pl.DataFrame]:
    """*frames*, older ones first, as one run or part of one, of which all have about *size* bytes."""
    made = Frames(place, size)
    for parts in _ranges(frames):
        part = pl.concat(parts, rechunk=True)
        made.add(part if merge is None else merge(part))
    return made.end()


class Frames:
    """Makes frames of a run, which has about *size* bytes, of small ones, and puts them in their *place*."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size = place, size
        place.trim()
        self._most = _frame_bytes(size)
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


def _frame_bytes(size: int) -> int:
    return max(FRAME_BYTES, size // _MOST_FRAMES)


def _ranges(frames: Sequence[pl.DataFrame]) -> Iterator[list[pl.DataFrame]]:
    """What *frames* have of each range of hashes, of which there are as many as makes them small."""
    count = -(-height_of(frames) // _MERGED_ROWS)
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
