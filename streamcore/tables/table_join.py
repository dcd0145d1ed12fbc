"""Rows of a stream with the row that a table has for their key when they come.

A row sees the last update of its key before it in the log; what the table says later changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_UPDATE_BEFORE, SUB, Rejects
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, folded, found, hashes_of, merged_by, rebuilt
from streamcore.tables.group import NUMBER
from streamcore.tables.grouping import GONE, without_gone
from streamcore.tables.join import numbered
from streamcore.tables.join_side import SIDE, JoinShape


@dataclass(frozen=True)
class TableJoin:
    """A join of rows that only come with a table, whose rows are named by the keys of *shape*.

    *outer*: a row without one in the table comes out with nulls; otherwise it does not.
    """

    shape: JoinShape
    outer: bool

    key: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = False
    orderly: ClassVar[bool] = False
    lag: ClassVar[int] = 0
    empty: ClassVar[State] = State((Runs(),))

    @property
    def keeps(self) -> tuple[bool, bool]:
        """Whether left and right rows stay that have no key."""
        return self.outer, False

    @property
    def label(self) -> str:
        """The keys, for people."""
        on = " and ".join(f"{left} = {right}" for left, right in self.shape.on.items())
        return f"{'left ' if self.outer else ''}join with a table on {on}"

    @property
    def by(self) -> tuple[str, ...]:
        """The keys."""
        return tuple(self.shape.keys)

    @property
    def columns(self) -> pl.Schema:
        """The stream's columns and the table's."""
        return self.shape.columns

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        types = {name: str(dtype) for name, dtype in self.shape.combined.items()}
        return repr(("table join", dict(self.shape.on), self.outer, types))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows of either side."""
        return pl.DataFrame(schema={**self.shape.combined, OP: pl.UInt8, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No rows."""
        hidden = {OFFSET: pl.Int64, SUB: pl.UInt32, OP: pl.UInt8}
        return pl.DataFrame(schema={**self.columns, **hidden})

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """All rows."""
        return Delta(frame.select(self.no_rows.columns), Rejects())

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put the table's rows in place; the emission are the stream's rows, each with what it saw."""
        (runs,), arrived, watermark = state.kept, state.arrived, max(state.watermark, watermark)
        frame = (pl.concat(rows) if rows else self.no_rows).drop(OFFSET)
        frame = frame.with_columns(pl.Series(NUMBER, np.arange(arrived, arrived + frame.height), pl.Int64))
        left = frame.filter(~pl.col(SIDE)).select(*self.shape.keys, *self.shape.left, NUMBER)
        changes = self._changes(frame)
        emission = numbered(self._seen(left, runs, changes).select(*self.columns), state.emitted)
        if changes.height:
            latest = as_run(self._last(changes), self.by)
            runs = added(runs, latest, lambda f: merged_by(f, self._fewer), oldest=without_gone)
        after = State((runs,), watermark, state.emitted + emission.height, arrived + frame.height)
        return Applied(after, emission)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The columns of both."""
        return emission.select(*self.columns, *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The table's rows."""
        (runs,) = state.kept
        if not runs:
            return pl.DataFrame(schema=self.shape.right)
        latest = merged_by(pl.concat(runs), self._last).filter(~pl.col(GONE))
        keys = {self.shape.on[left]: key for left, key in zip(self.shape.on, self.shape.keys, strict=True)}
        same = {name: pl.col(key).alias(name) for name, key in keys.items() if name not in latest.columns}
        return latest.select(*(same.get(name, pl.col(name)) for name in self.shape.right))

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by)

    # ------------------------------------------------------------ pieces

    def _changes(self, frame: pl.DataFrame) -> pl.DataFrame:
        gone = pl.col(OP).is_in([OP_DELETE, OP_UPDATE_BEFORE]).alias(GONE)
        own = (*self.shape.keys, *self.shape.right_kept, NUMBER)
        return frame.filter(pl.col(SIDE)).select(*own, gone)

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
