"""The distribution of numbers: moments and the buckets of the quantile sketch, as a state that merges.

Buckets are those of :class:`streamcore.aggregates.sketches.Quantile`: no value is farther than 1/256 of
itself from the middle of its bucket, whatever came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.aggregates.sketches import Quantile, buckets_of

Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]

_STEPS = 128
"""Buckets between a power of two and the next."""


def nothing() -> Int64s:
    """No buckets, or no counts."""
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What is known of ``count`` finite numbers; ``not_finite``: how many were NaN or infinite.

    ``mean`` and ``squares`` (the sum of squared distances from it) merge as in
    :class:`streamcore.aggregates.kinds.Variance`, which in floats is the same up to rounding. ``buckets`` are
    in order, each with its ``counts``.
    """

    count: int = 0
    not_finite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = float("inf")
    largest: float = float("-inf")
    buckets: Int64s = field(default_factory=nothing)
    counts: Int64s = field(default_factory=nothing)

    @classmethod
    def of(cls, values: pl.Series, weights: pl.Series) -> Numbers:
        """Each of *values* (no nulls) as often as *weights* say."""
        numbers, often = values.cast(pl.Float64), weights.cast(pl.Int64).to_numpy()
        finite = numbers.is_finite().to_numpy()
        not_finite = int(often[~finite].sum())
        numbers, often = numbers.filter(pl.Series(finite)), often[finite]
        if not len(often):
            return cls(not_finite=not_finite)
        plain = numbers.to_numpy()
        count = int(often.sum())
        mean = float((plain * (often / count)).sum())  # the sum itself may be beyond what a float holds
        buckets, counts = summed(buckets_of(numbers).to_numpy().astype(np.int64), often)
        with np.errstate(over="ignore"):
            squares = float((np.square(plain - mean) * often).sum())
        return cls(count, not_finite, mean, squares, float(plain.min()), float(plain.max()), buckets, counts)

    def merge(self, other: Numbers) -> Numbers:
        """Both together."""
        if not self.count or not other.count:
            full, empty = (self, other) if self.count else (other, self)
            return _with_not_finite(full, full.not_finite + empty.not_finite)
        count, apart = self.count + other.count, other.mean - self.mean
        buckets, counts = summed(
            np.concatenate([self.buckets, other.buckets]), np.concatenate([self.counts, other.counts])
        )
        return Numbers(
            count,
            self.not_finite + other.not_finite,
            self.mean * (self.count / count) + other.mean * (other.count / count),
            self.squares + other.squares + apart * apart * self.count * other.count / count,
            min(self.least, other.least),
            max(self.largest, other.largest),
            buckets,
            counts,
        )

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the numbers as a sample; None of fewer than two, or beyond what a float
        holds."""
        known = self.count > 1 and np.isfinite(self.squares)
        return float(np.sqrt(self.squares / (self.count - 1))) if known else None

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """The values at these ranks from 0 to 1, as :class:`Quantile` gives them; none without numbers."""
        if not self.count:
            return []
        totals = [np.cumsum(self.counts).tolist()]
        kept = pl.DataFrame(
            {"b": [self.buckets.tolist()], "t": totals, "l": [self.least], "m": [self.largest]},
            schema={"b": pl.List(pl.Int32), "t": pl.List(pl.Int64), "l": pl.Float64, "m": pl.Float64},
        )
        made = kept.select(
            Quantile(q).final(*map(pl.col, kept.columns)).alias(str(at)) for at, q in enumerate(wanted)
        )
        return [float(value) for value in made.row(0)]

    def pieces(self, *, whole: bool = False) -> tuple[Floats, Floats, Int64s]:
        """The lower and upper end of each bucket, within the least and largest number, and its count.

        Numbers lie from the lower end to below the upper one, or at both where they are the same, as of
        *whole* numbers they often are.
        """
        lower, upper = _ends(self.buckets)
        if whole:
            negative, narrow = self.buckets < 0, upper - lower < 1
            lower = np.where(
                negative, np.floor(lower) + 1, lower
            )  # the upper end is the one that belongs to it
            upper = np.where(narrow, lower, np.where(negative, upper + 1, upper))
        return np.clip(lower, self.least, None), np.clip(upper, None, self.largest), self.counts


def _with_not_finite(numbers: Numbers, not_finite: int) -> Numbers:
    return Numbers(
        numbers.count,
        not_finite,
        numbers.mean,
        numbers.squares,
        numbers.least,
        numbers.largest,
        numbers.buckets,
        numbers.counts,
    )


def summed(buckets: Int64s, counts: Int64s) -> tuple[Int64s, Int64s]:
    """Each bucket once, in order, with all that is counted of it."""
    each, places = np.unique(buckets, return_inverse=True)
    return each, np.bincount(places, counts, len(each)).astype(np.int64)


def _ends(buckets: Int64s) -> tuple[Floats, Floats]:
    """Where buckets begin and end, as numbers in order."""
    magnitude = np.where(buckets < 0, -1 - buckets, buckets)
    near, far = _value(magnitude), _value(magnitude + 1)
    return np.where(buckets < 0, -far, near), np.where(buckets < 0, -near, far)


def _value(magnitude: Int64s) -> Floats:
    """The number at which the bucket *magnitude* begins; what is nearer to zero than a normal float is
    zero."""
    value = np.ldexp(1 + (magnitude % _STEPS) / _STEPS, (magnitude // _STEPS - 1023).astype(np.int32))
    return np.where(magnitude < _STEPS, 0.0, value)
