"""The best rows of each group of another table, kept up to date: rows may change, move and leave.

A change of a group updates all its ranks, also those that stay as they were and those that it does not reach,
which are deleted: which of them it would have been enough to update depends on how the log is cut.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from streamcore.batch import OFFSET
from streamcore.state.base import types_of
from streamcore.state.emission import hidden, upserts
from streamcore.tables.group import NUMBER
from streamcore.tables.ordering import Order
from streamcore.tables.regroup import OverTable
from streamcore.tables.top import best_of

_RANK, _THERE = "_place", "_n_there"
"""Columns on the way: the rank from 0, and whether there is a row at it."""


@dataclass(frozen=True)
class TopOverTable(OverTable):
    """The *n* best rows by *order* of each group; of equal ones that whose last change is older is better.

    *rank* names the column of the rank, or is None.
    """

    order: tuple[Order, ...]
    n: int
    rank: str | None

    @property
    def label(self) -> str:
        """How many rows of which groups."""
        return f"top {self.n} by {', '.join(self.group)}"

    @property
    def key(self) -> tuple[str, ...]:
        """What names a row: the group, and its rank if there are several."""
        return (*self.group, self.rank) if self.rank and self.n > 1 else self.group

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows, and the rank if it has a name."""
        ranks = {self.rank: pl.Int64()} if self.rank else {}
        return pl.Schema({**self.inputs, **ranks})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        order = [tuple(order) for order in self.order]
        told = (self.group, self.of, order, self.n, self.rank, types_of(self.inputs))
        return repr(("top of table", *told))

    @property
    def ranks(self) -> int:
        """The ranks."""
        return self.n

    @property
    def needed(self) -> Collection[str]:
        """All columns come out."""
        return self.inputs.names()

    def updates_of(self, rows: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
        """All ranks of the groups, best first."""
        places, ranks = best_of(rows, self.group, self.order, self.n)
        best = rows[places].select(
            *self.inputs, pl.Series(_RANK, ranks, pl.Int64), pl.lit(True).alias(_THERE)
        )
        every = touched.join(pl.DataFrame({_RANK: range(self.n)}, schema={_RANK: pl.Int64}), how="cross")
        now = every.join(best, on=[*self.group, _RANK], how="left", nulls_equal=True)
        shown = [(pl.col(_RANK) + 1).alias(self.rank)] if self.rank else []
        return now.select(
            *self.inputs,
            *shown,
            *hidden(pl.col(NUMBER) * self.n + pl.col(_RANK), upserts(pl.col(_THERE))),
        ).sort(OFFSET)
