"""The best rows of each group, kept up to date over rows that are only ever added.

A group is the rows with equal values of the columns *by*; its best rows have the ranks 1 to *n*. Of rows
that stand equal in the order the one that came first in the log is better. The output is a table: a row
for each group and rank. With one rank it also is the latest row of each key.

**Why any cut of the log gives the same table.** A row gets a rank when it comes, and from then on only
better rows can push it down: whoever is pushed out of the first *r* never comes back. So the content of
rank *r* changes with a row exactly when that row is among the first *r* as it comes; and the last row
that changed it is the youngest of those that are the first *r* now: if a younger one had been among
them, another one, still younger, would have pushed it out. The arrival number of that row, and with it the
update's own number, is a function of the log alone, whatever was read in one call. A call emits rank *r*
if that row came in it, so an update is left out only if a later one of its key is in the same call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP_UPDATE_AFTER, Int64s
from streamcore.state.base import BaseOperator, types_of
from streamcore.state.emission import counted_from, hidden
from streamcore.state.grouping import PLACE, crowded, groups_of
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, added, as_run, found, hashes_of, merged_by
from streamcore.tables.ordering import Order

ARRIVAL = "_n"
"""Column of the pieces: how many rows came before this one, an Int64. It counts the log's rows."""
RESERVED = (HASH, ARRIVAL, PLACE)
"""Names that columns of the rows can't have."""


@dataclass(frozen=True)
class TopOperator(BaseOperator):
    """The *n* best rows by *order* of each group of *by*.

    *inputs* are the user columns of the rows that come in, all of which come out; *rank* names the column
    of the rank, or is None. Its pieces are rows that may still be among the best of their group.
    """

    by: tuple[str, ...]
    order: tuple[Order, ...]
    n: int
    rank: str | None
    inputs: pl.Schema

    @property
    def label(self) -> str:
        """How many rows of which groups."""
        return f"top {self.n} by {', '.join(self.by)}"

    @property
    def columns(self) -> pl.Schema:
        """The columns of the table: those of the rows, and the rank if it has a name."""
        ranks = {self.rank: pl.Int64()} if self.rank else {}
        return pl.Schema({**self.inputs, **ranks})

    @property
    def key(self) -> tuple[str, ...]:
        """What names a row of the table: the group, and its rank if there are several."""
        return (*self.by, self.rank) if self.rank and self.n > 1 else self.by

    @property
    def definition(self) -> str:
        """What it computes, as text: the same for the same results, in any process."""
        order = [tuple(order) for order in self.order]
        return repr(("top", self.by, order, self.n, self.rank, types_of(self.inputs)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """The state with *rows*, and the ranks whose row has changed, with their numbers in order."""
        # Each row that comes has n numbers, one a rank, so what was emitted says how many rows came.
        before = state.emitted // self.n
        came = self.whole(rows).drop(OFFSET)
        after = before + came.height
        came = came.with_columns(counted_from(before, came.height).alias(ARRIVAL))
        (runs,), emission = state.kept, self.nothing_out
        if came.height:
            known = [part.drop(HASH) for part in found(runs, hashes_of(came, self.by))]
            pieces = pl.concat([*known, came])
            places, ranks = self._best(pieces)
            emission = self._changed(pieces[places], ranks, before)
            new = np.sort(places[places >= pieces.height - came.height])
            runs = added(runs, as_run(pieces[new], self.by), lambda frame: merged_by(frame, self._fewer))
        return Applied(State((runs,), max(state.watermark, watermark), after * self.n), emission)

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, OFFSET: pl.Int64})

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        (runs,) = state.kept
        if not runs:
            return self.nothing_out.drop(HIDDEN)
        pieces = pl.concat(runs)
        places, ranks = self._best(pieces)
        return self._changed(pieces[places], ranks, 0).drop(HIDDEN)

    # ------------------------------------------------------------ pieces

    def _best(self, pieces: pl.DataFrame) -> tuple[Int64s, Int64s]:
        return best_of(pieces, self.by, self.order, self.n)

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        """*pieces*, which are sorted by hash, without those that can't be among the best any more."""
        many = crowded(pieces[HASH].to_numpy(), self.n)
        if not many.any():
            return pieces
        columns = dict.fromkeys([*self.by, *(order.column for order in self.order)])
        best, _ = self._best(pieces.select(*columns).filter(pl.Series(many)))
        stays = ~many
        stays[np.flatnonzero(many)[best]] = True
        return pieces.filter(pl.Series(stays))

    # ------------------------------------------------------------ emissions

    def _changed(self, best: pl.DataFrame, ranks: Int64s, before: int) -> pl.DataFrame:
        """Updates for those of *best*, with their *ranks*, that the rows from number *before* on changed."""
        # What changed a rank last is the youngest row up to it: the running maximum within the group, which
        # is one over all groups if each one's numbers are greater than those of the group before it.
        ages = np.maximum(best[ARRIVAL].to_numpy() - before + 1, 0)  # 0: it was there before
        span = int(ages.max()) + 1
        latest = np.maximum.accumulate(np.cumsum(ranks == 0) * span + ages) % span
        numbers = (before + latest - 1) * self.n + ranks
        order = np.argsort(numbers)[np.count_nonzero(latest == 0) :]  # unchanged ones have the least numbers
        shown = [pl.Series(self.rank, ranks[order] + 1)] if self.rank else []
        return best[order].select(
            *self.inputs,
            *shown,
            *hidden(pl.Series(numbers[order]), OP_UPDATE_AFTER),
        )


def best_of(pieces: pl.DataFrame, by: Sequence[str], order: Sequence[Order], n: int) -> tuple[Int64s, Int64s]:
    """Places of the best *n* by *order* of each group *by* of *pieces*, group by group, and ranks from 0.

    A group's *pieces* stand older first, as they do in runs. All sorts are stable, by what counts least
    first: so of equal ones the older is better.
    """
    places = np.arange(pieces.height)
    for column, descending in reversed(order):
        values = pieces.select(column)[places]
        sort = pl.arg_sort_by(column, descending=descending, nulls_last=True, maintain_order=True)
        places = places[values.select(sort).to_series().to_numpy()]
    groups = groups_of(pieces, by)[places]
    together = np.argsort(groups, kind="stable")
    places, groups = places[together], groups[together]
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    ranks = np.arange(len(places)) - np.repeat(starts, np.diff(starts, append=len(places)))
    return places[ranks < n], ranks[ranks < n]
