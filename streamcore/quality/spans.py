"""The distribution of times: counts in spans of equal length, as few as fit, as a state that merges.

Spans are ``[k * 2^j, (k + 1) * 2^j)`` microseconds with the smallest j for which at most :data:`MOST` of them
hold a time. A part of the times never needs longer spans than all of them, so the state is the same for any
cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.quality.numbers import Int64s, nothing, summed

MOST = 512
"""Spans that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """``places`` are the numbers k of the spans that hold times, in order; ``bits`` is j.

    ``least`` and ``largest`` are times; in microseconds, as all of it (a Time since midnight).
    """

    bits: int = 0
    places: Int64s = field(default_factory=nothing)
    counts: Int64s = field(default_factory=nothing)
    least: int = (1 << 63) - 1
    largest: int = -(1 << 63)

    @classmethod
    def of(cls, values: pl.Series, weights: pl.Series) -> Spans:
        """Each of the times *values* (no nulls) as often as *weights* say."""
        if not len(values):
            return cls()
        times = microseconds(values).to_numpy()
        places, counts = summed(times, weights.cast(pl.Int64).to_numpy())
        return _shortest(0, places, counts, int(times.min()), int(times.max()))

    @property
    def count(self) -> int:
        """How many times there are."""
        return int(self.counts.sum())

    def merge(self, other: Spans) -> Spans:
        """Both together."""
        if not len(self.places) or not len(other.places):
            return self if len(self.places) else other
        bits = max(self.bits, other.bits)
        places = [state.places >> np.int64(bits - state.bits) for state in (self, other)]
        together = summed(np.concatenate(places), np.concatenate([self.counts, other.counts]))
        return _shortest(bits, *together, min(self.least, other.least), max(self.largest, other.largest))


def microseconds(values: pl.Series) -> pl.Series:
    """Dates, times and durations as Int64: microseconds since 1970, since midnight, or of length."""
    dtype = values.dtype
    if isinstance(dtype, pl.Date):
        return microseconds(values.cast(pl.Datetime("us")))
    if isinstance(dtype, pl.Time):
        return microseconds(values.cast(pl.Duration("ns")))
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime | pl.Duration) else "us"
    whole: pl.Series = values.to_physical()
    return whole // 1_000 if unit == "ns" else whole * 1_000 if unit == "ms" else whole


def _shortest(bits: int, places: Int64s, counts: Int64s, least: int, largest: int) -> Spans:
    """The shortest spans, of *bits* or more, of which MOST at most hold a time; *places* are in order."""
    # Neighbours fall together when all bits in which they differ are shifted away.
    differ = _lengths((places[1:] ^ places[:-1]).view(np.uint64))
    left = 1 + len(differ) - np.cumsum(np.bincount(differ, minlength=65))
    more = int(np.argmax(left <= MOST))
    if more:
        places, counts = summed(places >> np.int64(more), counts)
    return Spans(bits + more, places, counts, least, largest)


def _lengths(words: npt.NDArray[np.uint64]) -> Int64s:
    """How many bits each of *words* has behind its leading zeros."""
    high, low = words >> np.uint64(32), words & np.uint64(0xFFFF_FFFF)
    of_high, of_low = (np.frexp(half.astype(np.float64))[1] for half in (high, low))
    lengths: Int64s = np.where(high > 0, 32 + of_high, of_low).astype(np.int64)
    return lengths
