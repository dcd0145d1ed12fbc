"""Aggregates that ask for the order of rows, where rows do not come in it: in windows.

Each row then has an *order*, an Int128 that grows along it (:mod:`streamcore.state.order`), and it is
kept beside the value, so that pieces may be merged in any tree and the value is that of the whole order.
Rows of equal order come in the order of the stream.

The argument of these aggregates is a struct of ``value`` and ``order``; a filter has left what it lets
pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamcore.aggregates.kinds import Aggregate, AnyValue, ArgBest, Collect, End, Exprs, flat, null_if_empty

VALUE, RANK = "value", "order"
"""Fields of the argument."""


class OrderedAggregate:
    """Marks an :class:`~streamcore.aggregates.kinds.Aggregate` over structs of a value and its order."""

    skips_nulls = False


def _parts(pairs: pl.Expr) -> Exprs:
    return pairs.struct.field(VALUE), pairs.struct.field(RANK)


@dataclass(frozen=True)
class OrderedEnd(OrderedAggregate):
    """first and last: the value of the lowest or highest order; without *nulls* (any_value) that is not null.

    Kept are the value and its order, which is null without a row.
    """

    last: bool
    nulls: bool = True

    def partial(self, values: pl.Expr) -> Exprs:
        return self.merge(*_parts(values))

    def merge(self, *kept: pl.Expr) -> Exprs:
        value, order = kept
        if not self.nulls:
            there = value.is_not_null()
            value, order = value.filter(there), order.filter(there)
        if self.last:  # of equal ones max_by takes the first; reverse() is wrong in groups of several chunks
            return value.filter(order == order.max()).last(), order.max()
        return value.min_by(order), order.min()

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


@dataclass(frozen=True)
class OrderedCollect(OrderedAggregate):
    """list, array_agg: all values by their order. Kept are both lists; they grow with the group."""

    def partial(self, values: pl.Expr) -> Exprs:
        return self._sorted(*_parts(values))

    def merge(self, *kept: pl.Expr) -> Exprs:
        return self._sorted(*map(flat, kept))

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return null_if_empty(kept[0])

    def _sorted(self, value: pl.Expr, order: pl.Expr) -> Exprs:
        return value.sort_by(order, maintain_order=True).implode(), order.sort().implode()


@dataclass(frozen=True)
class OrderedArgBest(OrderedAggregate):
    """arg_max and arg_min, see :class:`~streamcore.aggregates.kinds.ArgBest`: ties go to the lowest order."""

    plain: ArgBest

    def partial(self, values: pl.Expr) -> Exprs:
        pair, order = _parts(values)
        value, by = self.plain.pair(pair)
        there = value.is_not_null() & by.is_not_null()
        return self._best(value.filter(there), by.filter(there), order.filter(there))

    def merge(self, *kept: pl.Expr) -> Exprs:
        return self._best(*map(flat, kept))

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return self.plain.final(*kept)

    def _best(self, value: pl.Expr, by: pl.Expr, order: pl.Expr) -> Exprs:
        # Two stable sorts, for one by two columns panics in polars 2.1 where a group lies in several chunks.
        value, by, order = (c.sort_by(order, maintain_order=True) for c in (value, by, order))
        largest = self.plain.largest
        columns = (c.sort_by(by, descending=largest, maintain_order=True) for c in (value, by, order))
        # head() before implode() panics in polars 2.1 when a group lies in several chunks.
        return tuple(column.implode().list.head(self.plain.count) for column in columns)


def in_order(aggregate: Aggregate) -> Aggregate:
    """What takes the place of *aggregate* where rows do not come in their order; often itself."""
    if isinstance(aggregate, End):
        return OrderedEnd(aggregate.last)
    if isinstance(aggregate, AnyValue):
        return OrderedEnd(last=False, nulls=False)
    if isinstance(aggregate, Collect):
        return OrderedCollect()
    if isinstance(aggregate, ArgBest):
        return OrderedArgBest(aggregate)
    return aggregate
