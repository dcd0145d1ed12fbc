"""Rows of a stream with the row that a table has for their key when they come.

A row sees the last update of its key before it in the log; what the table says later changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from streamcore.batch import DELETES, OFFSET
from streamcore.state.base import types_of
from streamcore.state.emission import counted_from, numbered
from streamcore.state.grouping import GONE, without_gone
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, as_run, folded, found, hashes_of, merged_by
from streamcore.tables.group import NUMBER
from streamcore.tables.join_side import SIDE, OfSides


@dataclass(frozen=True)
class TableJoin(OfSides):
    """A join of rows that only come with a table, whose rows are named by the keys of *shape*.

    *outer*: a row without one in the table comes out with nulls; otherwise it does not.
    """

    outer: bool

    @property
    def keeps(self) -> tuple[bool, bool]:
        """Whether left and right rows stay that have no key."""
        return self.outer, False

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"{'left ' if self.outer else ''}join with a table on {self.shape.text}"

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("table join", dict(self.shape.on), self.outer, types_of(self.shape.combined)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put the table's rows in place; the emission are the stream's rows, each with what it saw."""
        (runs,), arrived, watermark = state.kept, state.arrived, max(state.watermark, watermark)
        frame = self.whole(rows).drop(OFFSET)
        frame = frame.with_columns(counted_from(arrived, frame.height).alias(NUMBER))
        left = frame.filter(~pl.col(SIDE)).select(*self.shape.keys, *self.shape.left, NUMBER)
        changes = self._changes(frame)
        emission = numbered(self._seen(left, runs, changes).select(*self.columns), state.emitted)
        if changes.height:
            latest = as_run(self._last(changes), self.by)
            runs = added(runs, latest, lambda f: merged_by(f, self._fewer), oldest=without_gone)
        after = State((runs,), watermark, state.emitted + emission.height, arrived + frame.height)
        return Applied(after, emission)

    def shown(self, state: State) -> pl.DataFrame:
        """The table's rows."""
        (runs,) = state.kept
        if not runs:
            return pl.DataFrame(schema=self.shape.right)
        latest = merged_by(pl.concat(runs), self._last).filter(~pl.col(GONE))
        keys = {self.shape.on[left]: key for left, key in zip(self.shape.on, self.shape.keys, strict=True)}
        same = {name: pl.col(key).alias(name) for name, key in keys.items() if name not in latest.columns}
        return latest.select(*(same.get(name, pl.col(name)) for name in self.shape.right))

    # ------------------------------------------------------------ pieces

    def _changes(self, frame: pl.DataFrame) -> pl.DataFrame:
        own = (*self.shape.keys, *self.shape.right_kept, NUMBER)
        return frame.filter(pl.col(SIDE)).select(*own, DELETES.alias(GONE))

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return folded(pieces, self._last)

    def _last(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return pieces.group_by(self.by, maintain_order=True).last().select(pieces.columns)

    def _seen(self, left: pl.DataFrame, runs: Runs, changes: pl.DataFrame) -> pl.DataFrame:
        """The *left* rows with the last row of the table before each of them."""
        known = [part.drop(HASH).select(changes.columns) for part in found(runs, hashes_of(left, self.by))]
        table = pl.concat([*known, changes]).sort(NUMBER)
        seen = left.join_asof(table, on=NUMBER, by=list(self.by), strategy="backward", check_sortedness=False)
        there = pl.col(GONE).eq_missing(False)
        if not self.outer:
            return seen.filter(there)
        theirs = (pl.col(name) for name in self.shape.right_kept)
        return seen.with_columns(pl.when(there).then(column) for column in theirs)
