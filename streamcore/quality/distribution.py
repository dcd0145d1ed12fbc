"""A distribution in a few hundred pieces: what profiles keep of numbers and times, to draw and to compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict

from streamcore.quality.numbers import Floats, Int64s, Numbers
from streamcore.quality.spans import Spans

MOST = 256
"""Pieces that are kept, about."""
BINS = 24
"""Bars of a histogram, about."""
Step: TypeAlias = Callable[[float], float]
"""The next round width that is not less."""


class Distribution(BaseModel):
    """Pieces in order: ``counts[i]`` values lie from ``lower[i]`` to ``upper[i]``, evenly as far as is
    known."""

    model_config = ConfigDict(frozen=True)

    lower: Sequence[float]
    upper: Sequence[float]
    counts: Sequence[int]

    @classmethod
    def of_numbers(cls, numbers: Numbers, *, whole: bool = False) -> Distribution:
        """A piece a bucket; *whole*: of whole numbers."""
        return cls._of(*numbers.pieces(whole=whole))

    @classmethod
    def of_spans(cls, spans: Spans) -> Distribution:
        """A piece a span of time, in microseconds."""
        lower = (spans.places << np.int64(spans.bits)).astype(np.float64)
        upper = lower + float(1 << spans.bits)
        return cls._of(np.clip(lower, spans.least, None), np.clip(upper, None, spans.largest), spans.counts)

    @classmethod
    def _of(cls, lower: Floats, upper: Floats, counts: Int64s) -> Distribution:
        return cls(lower=lower.tolist(), upper=upper.tolist(), counts=counts.tolist())

    def joined(self) -> Distribution:
        """About :data:`MOST` pieces: neighbours together where they are small."""
        counts = np.array(self.counts, np.int64)
        if len(counts) <= MOST:
            return self
        # A piece belongs to the group in which its middle falls; what holds more than a share stands alone.
        group = np.floor((np.cumsum(counts) - counts / 2) / (counts.sum() / MOST))
        starts = np.flatnonzero(np.diff(group, prepend=-1.0))
        ends = np.append(starts[1:], len(counts)) - 1
        lower, upper = np.array(self.lower), np.array(self.upper)
        return self._of(lower[starts], upper[ends], np.add.reduceat(counts, starts))

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def below(self, places: Floats) -> Floats:
        """How many values are less than each of *places*, shape as *places*."""
        lower, upper, counts = np.array(self.lower), np.array(self.upper), np.array(self.counts, np.float64)
        if not len(counts):
            return np.zeros(len(places))
        before = np.concatenate([[0.0], np.cumsum(counts)])
        at = np.searchsorted(lower, places, "left")  # so many pieces begin before the place
        last = np.maximum(at - 1, 0)
        width, into = upper[last] - lower[last], np.ones(len(places))  # a single number is all below
        np.divide(places - lower[last], width, out=into, where=width > 0)
        into = np.clip(into, 0.0, 1.0)
        return np.where(at == 0, 0.0, before[last] + into * counts[last])

    def histogram(self, step: Step, *, whole: bool = False) -> Histogram:
        """Bars of equal width over all but the outermost hundredths, which are in the first and last bar.

        Of *whole* numbers the last edge is one behind the largest.
        """
        if not self.counts:
            return Histogram(edges=[], counts=[])
        low, high = self._middle()
        least, largest = self.lower[0], self.upper[-1]
        end = np.floor(largest) + 1 if whole else largest
        edges = _edges(low, end if high == largest else high, least, float(end), step)
        below = self.below(np.array(edges[1:-1]))
        ends = np.concatenate([[0.0], below, [float(self.total)]])
        return Histogram(edges=edges, counts=np.diff(np.round(ends)).astype(int).tolist())

    def _middle(self) -> tuple[float, float]:
        """Where the first and the last hundredth of the values end; all of it when that is not much more."""
        before = np.cumsum(self.counts) / self.total
        low = self.lower[int(np.searchsorted(before, 0.01, "right"))]
        high = self.upper[min(int(np.searchsorted(before, 0.99, "left")), len(before) - 1)]
        least, largest, reach = self.lower[0], self.upper[-1], high - low
        if reach <= 0:
            return least, largest
        return (
            least if low - least <= reach / 2 else low,
            largest if largest - high <= reach / 2 else high,
        )


class Histogram(BaseModel):
    """``counts[i]`` values lie from ``edges[i]`` to below ``edges[i + 1]``; the last ones up to its end.

    The first and last edge are the least and largest value (of whole numbers one behind it), so the outer
    bars may be wider than the others.
    """

    model_config = ConfigDict(frozen=True)

    edges: Sequence[float]
    counts: Sequence[int]


def _edges(low: float, high: float, least: float, largest: float, step_of: Step) -> list[float]:
    """Edges at round numbers from *low* to *high*, the first at *least*, the last at *largest*."""
    if not 0 < high - low < float("inf"):
        return [least, largest]
    step = step_of((high - low) / (BINS - 2))
    inner = [k * step for k in range(floor(low / step) + 1, ceil(high / step))]
    return [least, *(edge for edge in inner if least < edge < largest), largest]


def number_step(step: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next((r * power for r in (1.0, 2.0, 2.5, 5.0) if r * power >= step * 0.999), 10 * power)


def whole_step(step: float) -> float:
    """The same of whole numbers: one at least."""
    return 1.0 if step <= 1 else max(float(round(number_step(step))), 1.0)


_SECOND = 1_000_000.0
_DAY = 86_400 * _SECOND
_STEPS = [_SECOND * s for s in (1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200)]
_TIME_STEPS = [*_STEPS, *(_DAY * days for days in (1, 2, 7, 14, 28, 91, 182, 364))]


def time_step(step: float) -> float:
    """The next round time, in microseconds: seconds, minutes, hours, days, weeks; beyond a year numbers of
    it."""
    known = next((s for s in _TIME_STEPS if s >= step), None)
    return known or number_step(step / _TIME_STEPS[-1]) * _TIME_STEPS[-1]
