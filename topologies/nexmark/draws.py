"""Random numbers with random access: what a name draws for event k is a function of seed, name and k.

Each name has a stream of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
Generators", OOPSLA 2014), whose state is a counter: its n-th number needs no number before it. So
events can be made in any blocks, and one of them does not change when there are more.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Draws:
    """What is drawn for *events* (their numbers); every method gives one value an event, in their order."""

    seed: int
    events: Int64s

    def below(self, name: str, bound: int | Int64s) -> Int64s:
        """Whole numbers from 0 to *bound* - 1 (at most 2**31), each about as often."""
        high = self._words(name, 1)[:, 0] >> np.uint64(32)
        drawn: Int64s = (high * np.asarray(bound, np.uint64) >> np.uint64(32)).astype(np.int64)
        return drawn

    def unit(self, name: str) -> npt.NDArray[np.float64]:
        """Numbers from 0 to 1, without 1."""
        high = self._words(name, 1)[:, 0] >> np.uint64(11)
        drawn: npt.NDArray[np.float64] = high.astype(np.float64) * 2.0**-53
        return drawn

    def one_of(self, name: str, values: tuple[str, ...]) -> pl.Series:
        """One of *values*."""
        return pl.Series(values)[self.below(name, len(values))]

    def letters(self, name: str, most: int, lengths: Int64s | None = None) -> pl.Series:
        """Texts of small letters, *lengths* long, each at most *most*; without *lengths* exactly so long."""
        count = len(self.events)
        random = self._words(name, -(-most // 8)).astype("<u8").view(np.uint8)
        letters = (ord("a") + (random[:, :most].astype(np.uint16) * 26 >> 8)).astype(np.uint8)
        ends = np.arange(1, count + 1) * most
        if lengths is not None:
            letters, ends = letters[np.arange(most) < lengths[:, None]], np.cumsum(lengths)
        offsets = np.concatenate([[0], ends]).astype(np.int64)
        data = pa.py_buffer(np.ascontiguousarray(letters))
        return pl.Series(pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), data))

    def _words(self, name: str, width: int) -> Words:
        """Random words, shape (events, *width*)."""
        stream = _mixed(_mixed(np.array([self.seed], np.uint64)) + np.uint64(zlib.crc32(name.encode())))
        places = self.events.astype(np.uint64)[:, None] * np.uint64(width) + np.arange(width, dtype=np.uint64)
        return _mixed(stream + (places + np.uint64(1)) * _GAMMA)


def _mixed(states: Words) -> Words:
    """The output function of SplitMix64."""
    mixed: Words = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
