"""The aggregates: what each keeps of its rows, how that is merged, and the value made of it.

An aggregate is three pure functions of polars expressions. ``partial`` runs over the rows of a group,
``merge`` over the kept columns of several pieces of the group in the stream's order, ``final`` over one
row of kept columns. The cut law binds them: however the rows are cut, and in whatever tree the pieces
are merged, the final value is the same (of floats: up to rounding). A piece may hold no row that counts.

Built-ins follow DuckDB: nulls are skipped, except by first, last and list; without a row that counts
the value is null, of count 0; NaN is the largest number; ``-0.0`` equals ``0.0``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import polars as pl

Exprs: TypeAlias = tuple[pl.Expr, ...]


class Aggregate(Protocol):
    """An aggregate over one argument. Frozen, with equality; its types are those of its expressions."""

    @property
    def skips_nulls(self) -> bool:
        """Whether a null counts as no row. FILTER then only makes the other rows null, which is cheaper."""
        ...

    def partial(self, values: pl.Expr) -> Exprs:
        """The kept columns of a group with the argument *values* (rows in stream order), for ``agg``."""
        ...

    def merge(self, *kept: pl.Expr) -> Exprs:
        """The kept columns of a group of pieces, for ``agg``: as many, of the same types."""
        ...

    def final(self, *kept: pl.Expr) -> pl.Expr:
        """The value, element by element."""
        ...


@runtime_checkable
class Pairwise(Protocol):
    """An aggregate that can merge two pieces element by element: groups of two cost many times as much."""

    def merge_two(self, older: Exprs, younger: Exprs) -> Exprs | None:
        """As ``merge`` of the kept columns *older* and *younger*, in this order; None where it can't."""
        ...


@dataclass(frozen=True)
class Rows:
    """count(*): Int64."""

    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (pl.len().cast(pl.Int64),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (kept[0].sum(),)

    def merge_two(self, older: Exprs, younger: Exprs) -> Exprs:
        return (older[0] + younger[0],)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


@dataclass(frozen=True)
class Count(Rows):
    """count(x): the rows that are not null, Int64."""

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.count().cast(pl.Int64),)


@dataclass(frozen=True)
class Fold:
    """Aggregates whose kept column is their value so far: min, max, bool_and, bool_or, sum.

    ``two`` folds two values, of which none is null, element by element.
    """

    fold: Callable[[pl.Expr], pl.Expr]
    dtype: pl.DataType
    two: Callable[[pl.Expr, pl.Expr], pl.Expr] | None = None
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (self.fold(values.cast(self.dtype)),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (self.fold(kept[0]),)

    def merge_two(self, older: Exprs, younger: Exprs) -> Exprs | None:
        if self.two is None:
            return None
        one, other = older[0], younger[0]
        both = pl.when(one.is_not_null() & other.is_not_null()).then(self.two(one, other))
        return (pl.coalesce(both, one, other),)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


@dataclass(frozen=True)
class WideSum:
    """sum of a type that a sum can overflow, Int128 and Decimal: null beyond 38 digits, never wrapped.

    polars adds both as 128-bit integers that wrap at 1.7e38, so the sum is also kept as a float: it
    tells the sums that may have wrapped (a sum on the way may: wrapping back makes it right again).
    """

    dtype: pl.DataType
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return sum_or_null(values.cast(self.dtype)), sum_or_null(values.cast(pl.Float64))

    def merge(self, *kept: pl.Expr) -> Exprs:
        return sum_or_null(kept[0]), sum_or_null(kept[1])

    def final(self, *kept: pl.Expr) -> pl.Expr:
        total, rough = kept
        scale = self.dtype.scale if isinstance(self.dtype, pl.Decimal) else 0
        return pl.when(rough.abs() < 10.0 ** (38 - scale)).then(total)


@dataclass(frozen=True)
class Mean:
    """avg, Float64: sum and count. ``dtype`` is what is added up in, Int128 (exact) or Float64."""

    dtype: pl.DataType
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return values.cast(self.dtype).sum(), values.count().cast(pl.Int64)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return kept[0].sum(), kept[1].sum()

    def merge_two(self, older: Exprs, younger: Exprs) -> Exprs:
        return older[0] + younger[0], older[1] + younger[1]

    def final(self, *kept: pl.Expr) -> pl.Expr:
        total, count = kept
        return pl.when(count > 0).then(total.cast(pl.Float64) / count)


@dataclass(frozen=True)
class Variance:
    """var_pop (``ddof`` 0), var_samp (1) and, with ``root``, the standard deviations, Float64.

    Kept are n, the mean and M2 (the sum of squared distances from the mean), merged by the pairwise
    formula of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979), here for any number of pieces at once: M2 = Σ M2_i + Σ n_i (mean_i - mean)².
    A NaN or an infinity among the values gives NaN.
    """

    ddof: int
    root: bool
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        values = values.cast(pl.Float64)
        count = values.count().cast(pl.Int64)
        return count, values.mean(), (values.var(ddof=0) * count).fill_null(0.0)

    def merge(self, *kept: pl.Expr) -> Exprs:
        count, mean, squares = kept
        center = (count * mean).sum() / count.sum()
        together = squares.sum() + (count * (mean - center).pow(2)).sum()
        return count.sum(), pl.when(count.sum() > 0).then(center), together

    def final(self, *kept: pl.Expr) -> pl.Expr:
        count, _, squares = kept
        variance = pl.when(count > self.ddof).then(squares / (count - self.ddof))
        return variance.sqrt() if self.root else variance


@dataclass(frozen=True)
class End:
    """first and last of the stream's order; a null counts, as in DuckDB.

    Kept are the value and whether there was a row, for a null value is not the same as no row.
    """

    last: bool
    skips_nulls = False

    def _end(self, values: pl.Expr) -> pl.Expr:
        return values.last() if self.last else values.first()

    def partial(self, values: pl.Expr) -> Exprs:
        return self._end(values), values.len() > 0

    def merge(self, *kept: pl.Expr) -> Exprs:
        value, seen = kept
        return self._end(value.filter(seen)), seen.any()

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


@dataclass(frozen=True)
class AnyValue:
    """any_value: the first of the stream's order that is not null."""

    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.drop_nulls().first(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return self.partial(kept[0])

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


@dataclass(frozen=True)
class Collect:
    """list, array_agg: all values, nulls too, in stream order; null without a row. Grows with the group."""

    skips_nulls = False

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.implode(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (flat(kept[0]).implode(),)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return null_if_empty(kept[0])


@dataclass(frozen=True)
class CountDistinct:
    """count(distinct x), exact, Int64. Keeps each distinct value, in the order of its first row."""

    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.drop_nulls().unique(maintain_order=True).implode(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (flat(kept[0]).unique(maintain_order=True).implode(),)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0].list.len().cast(pl.Int64)


@dataclass(frozen=True)
class Top:
    """max(x, n) and min(x, n): the n largest or smallest values, best first; null without a value."""

    count: int
    largest: bool
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        # Measured on 20,000 groups: sort and head take 0.6 of the time of top_k, and the order is made.
        return (values.drop_nulls().sort(descending=self.largest).head(self.count).implode(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return self.partial(flat(kept[0]))

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return null_if_empty(kept[0])


@dataclass(frozen=True)
class ArgBest:
    """arg_max(x, y) and arg_min(x, y): the x of the row with the largest or least y.

    *listed*: the list of the *count* best. The argument is a struct of ``value`` and ``by``. A row in which
    one of them is null counts as none. Of rows with the same y the first of the stream's order is better.
    Kept are lists of both, best first.
    """

    count: int
    largest: bool
    listed: bool = False
    skips_nulls = True

    @staticmethod
    def pair(values: pl.Expr) -> Exprs:
        """Both parts of the argument."""
        return values.struct.field("value"), values.struct.field("by")

    def partial(self, values: pl.Expr) -> Exprs:
        value, by = self.pair(values)
        there = value.is_not_null() & by.is_not_null()
        return self._best(value.filter(there), by.filter(there))

    def merge(self, *kept: pl.Expr) -> Exprs:
        return self._best(*map(flat, kept))

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return null_if_empty(kept[0]) if self.listed else kept[0].list.first()

    def _best(self, value: pl.Expr, by: pl.Expr) -> Exprs:
        columns = (c.sort_by(by, descending=self.largest, maintain_order=True) for c in (value, by))
        # head() before implode() panics in polars 2.1 when a group lies in several chunks.
        return tuple(column.implode().list.head(self.count) for column in columns)


def larger(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """The larger of two values that are not null, element by element."""
    return pl.when(other > one).then(other).otherwise(one)


def smaller(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """The smaller of two values that are not null, element by element."""
    return pl.when(other < one).then(other).otherwise(one)


def sum_or_null(values: pl.Expr) -> pl.Expr:
    """SQL's sum: of nothing it is null, where polars gives 0."""
    return pl.when(values.count() > 0).then(values.sum())


def flat(lists: pl.Expr) -> pl.Expr:
    """The elements of *lists*, one after the other."""
    return lists.explode(empty_as_null=False, keep_nulls=False)


def null_if_empty(lists: pl.Expr) -> pl.Expr:
    """*lists*, null where one has no element."""
    return pl.when(lists.list.len() > 0).then(lists)
