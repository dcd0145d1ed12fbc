"""Sketches: aggregates that are near enough, in bounded space. They merge in any order and tree to the same.

What is kept of a group is a list: of the registers that are not empty, or of the buckets that are. Small
groups so take little, and merging is sorting, in columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import polars as pl

from streamcore.aggregates.hashing import hash64, with_nulls
from streamcore.aggregates.kinds import Exprs, flat

_RANK_BITS = 46
"""Bits of a hash in which the first one is looked for; the others are the register's number."""


@dataclass(frozen=True)
class HyperLogLog:
    """approx_count_distinct(x): the number of distinct values, Int64, from 2^precision registers.

    A register keeps the largest rank of the hashes that fall to it: how many bits there are up to the first
    one that is set. Kept is a list of ``register * 64 + rank`` (UInt32), without empty registers. The
    standard error is 1.04 / sqrt(2^precision), 1.6 % with 12. Sources: Flajolet et al., HyperLogLog, 2007;
    the estimate, which needs no tables of corrections, is that of Ertl, New cardinality estimation
    algorithms for HyperLogLog sketches, 2017, https://arxiv.org/abs/1702.01284 (algorithm 6).
    """

    precision: int = 12
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        hit = values.map_batches(self._registers, return_dtype=pl.UInt32, is_elementwise=True)
        return (self._largest(hit.drop_nulls()),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (self._largest(flat(kept[0])),)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        registers = 1 << self.precision
        ranks = (kept[0].list.eval((pl.element() % 64).cast(pl.Float64).neg().mul(log(2)).exp())).list.sum()
        empty = 1 - kept[0].list.len().cast(pl.Float64) / registers
        sigma = empty
        for k in range(1, self.precision + 7):  # the terms behind are below the rounding of floats
            sigma = sigma + empty.pow(float(1 << k)) * float(1 << (k - 1))
        estimate = registers**2 / (2 * log(2)) / (registers * sigma + ranks)
        return pl.when(kept[0].list.len() > 0).then(estimate.round()).otherwise(0.0).cast(pl.Int64)

    def _registers(self, values: pl.Series) -> pl.Series:
        hashed = hash64(values)
        hashes = hashed.fill_null(0).to_numpy()
        low = (hashes & np.uint64((1 << _RANK_BITS) - 1)).astype(np.float64)  # exact: fewer than 53 bits
        ranks = _RANK_BITS + 1 - np.frexp(low)[1]
        packed = (hashes >> np.uint64(64 - self.precision)) * np.uint64(64) + ranks.astype(np.uint64)
        hit = pl.Series(values.name, packed.astype(np.uint32))
        return with_nulls(hit, hashed)

    def _largest(self, packed: pl.Expr) -> pl.Expr:
        """Of each register the entry with the largest rank, by register."""
        packed = packed.sort()
        register = packed // 64
        return packed.filter((register != register.shift(-1)).fill_null(True)).implode()


_STEPS = 128
"""Buckets, of equal width, between a power of two and the next."""
_SHIFT = np.int64(45)
"""Bits of a float behind its sign, exponent and the 7 bits of the fraction that are a bucket's number."""
_INFINITE = 0x7FF << 7
"""The bucket of infinity; that of NaN is behind it."""


@dataclass(frozen=True)
class Quantile:
    """quantile(x, q), median(x): within 0.4 % of the value at the rank q * (n - 1), rounded down; Float64.

    Kept are the buckets that hold values, in order, how many values there are up to each, and the least and
    largest value.
    A bucket's number is the upper bits of the float, its exponent and 7 bits of the fraction: so where a
    value falls is exact, without a logarithm, and no value is farther than 1/256 from the bucket's middle.
    Negative values have buckets below zero, NaN is the largest number, and what is nearer to zero than
    2.2e-308 counts as zero. Source: Masson, Rim and Lee, DDSketch, VLDB 2019,
    https://www.vldb.org/pvldb/vol12/p2195-masson.pdf, with a linear instead of a logarithmic mapping.
    """

    q: float
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        number = values.cast(pl.Float64)
        bucket = number.map_batches(buckets_of, return_dtype=pl.Int32, is_elementwise=True)
        bucket = bucket.drop_nulls().sort()
        kept = self._added(bucket, bucket.cum_count().cast(pl.Int64))
        return *kept, number.min(), number.max()

    def merge(self, *kept: pl.Expr) -> Exprs:
        bucket, total, least, largest = flat(kept[0]), flat(kept[1]), kept[2], kept[3]
        count = flat(kept[1].list.diff()).fill_null(total)  # the first of each piece has none before it
        together = count.sort_by(bucket, maintain_order=True).cum_sum()
        return *self._added(bucket.sort(), together), least.min(), largest.max()

    def final(self, *kept: pl.Expr) -> pl.Expr:
        buckets, totals, least, largest = kept
        rank = ((totals.list.last() - 1) * self.q).floor().cast(pl.Int64)
        # Elementwise, and sums of lists: aggregates within list.eval take ten times as long.
        place = (totals - rank).list.eval((pl.element() <= 0).cast(pl.UInt32)).list.sum()
        bucket = buckets.list.get(place, null_on_oob=True)
        magnitude = pl.when(bucket < 0).then(-1 - bucket).otherwise(bucket)
        power = (magnitude // _STEPS - 1023).cast(pl.Float64)
        infinite = pl.lit(1.0) / 0.0  # as a literal, it would not go through JSON, as expressions do
        middle = pl.lit(2.0).pow(power) * (1 + (magnitude % _STEPS + 0.5) / _STEPS)
        size = pl.when(magnitude < _STEPS).then(0.0).when(magnitude == _INFINITE).then(infinite)
        value = size.otherwise(middle) * pl.when(bucket < 0).then(-1.0).otherwise(1.0)
        nan = pl.when(magnitude > _INFINITE).then(infinite * 0.0)
        return pl.when(buckets.list.len() > 0).then(nan.otherwise(value.clip(least, largest)))

    @staticmethod
    def _added(buckets: pl.Expr, totals: pl.Expr) -> Exprs:
        """*buckets*, sorted, each once, and the *totals* up to and with each."""
        last = (buckets != buckets.shift(-1)).fill_null(True)
        return buckets.filter(last).implode(), totals.filter(last).implode()


def buckets_of(values: pl.Series) -> pl.Series:
    """The bucket of each value (Float64), Int32, as :class:`Quantile` has them; nulls kept."""
    numbers = values.fill_null(0.0).to_numpy() + 0.0  # -0.0 + 0.0 is 0.0
    numbers[np.isnan(numbers)] = np.nan  # of which there are many, with signs of their own
    bits = numbers.view(np.int64)
    magnitude = (bits & np.int64(0x7FFF_FFFF_FFFF_FFFF)) >> _SHIFT
    made = pl.Series(values.name, np.where(bits < 0, -1 - magnitude, magnitude).astype(np.int32))
    return with_nulls(made, values)
