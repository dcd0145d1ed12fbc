"""Two tables by their keys as one table, kept up to date from both sides.

Each row of the log has a number, counted along it, and touches the key that it has. A call gives one update
for each key that it touched, with the number of the last row that did: what the two tables then say of the
key. So an update is a function of the rows up to its number, however the log is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import polars as pl

from streamcore.batch import (
    DELETES,
    OFFSET,
    OP,
    OP_DELETE,
)
from streamcore.state.base import types_of
from streamcore.state.emission import counted_from, hidden, upserts
from streamcore.state.grouping import GONE, without_gone
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, as_run, folded, found, hashes_of, merged_by, rebuilt
from streamcore.tables.group import NUMBER
from streamcore.tables.join_side import SIDE, OfSides

_HERE = ("_left", "_right")
"""Hidden columns: a table has no row of this key any more; which of the two have one."""


@dataclass(frozen=True)
class TablesJoin(OfSides):
    """A join of two tables whose rows are named by the keys of *shape*; nulls are keys as any other value.

    Its own key are the left columns of the keys, in the type in which they are compared. A key has a row
    where both tables have one, in a "left" join where the left one has, in a "full" one where either has.
    """

    how: Literal["inner", "left", "full"]

    keeps: ClassVar[tuple[bool, bool]] = (True, True)
    empty: ClassVar[State] = State((Runs(), Runs()))
    """The latest rows of the left and of the right table."""

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"{self.how} join of tables on {self.shape.text}"

    @property
    def key(self) -> tuple[str, ...]:
        """The left columns of the keys."""
        return tuple(self.shape.on)

    @cached_property
    def columns(self) -> pl.Schema:
        """The left table's columns and the right one's."""
        keys = dict(zip(self.shape.on, self.shape.keys.values(), strict=True))
        return pl.Schema({name: keys.get(name, dtype) for name, dtype in self.shape.columns.items()})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("tables join", dict(self.shape.on), self.how, types_of(self.shape.combined)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* in the places of those with their keys; the updates are of the keys touched."""
        first, watermark = state.emitted, max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State(state.kept, watermark, first, first), self.nothing_out)
        behind = first + frame.height
        frame = frame.with_columns(counted_from(first, frame.height).alias(NUMBER), DELETES.alias(GONE))
        touched = frame.group_by(self.by, maintain_order=True).agg(pl.col(NUMBER).max())
        came = [as_run(self._last(self._own(frame, side)), self.by) for side in (False, True)]
        hashes = hashes_of(touched, self.by)
        latest = [
            self._last(pl.concat([*found(runs, hashes), new]))
            for runs, new in zip(state.kept, came, strict=True)
        ]
        kept = tuple(self._added(runs, new) for runs, new in zip(state.kept, came, strict=True))
        return Applied(State(kept, watermark, behind, behind), self._updates(touched, *latest))

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        empty = self.no_rows.with_columns(pl.lit(0, pl.Int64).alias(NUMBER), pl.lit(False).alias(GONE))
        whole = [
            self._last(pl.concat([run.drop(HASH) for run in runs] or [self._own(empty, side)]))
            for side, runs in zip((False, True), state.kept, strict=True)
        ]
        touched = pl.concat([rows.select(*self.by, NUMBER) for rows in whole]).unique(
            self.by, maintain_order=True
        )
        there = self._updates(touched, *whole).filter(pl.col(OP) != OP_DELETE)
        return there.select(*self.columns)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by, self.by)

    # ------------------------------------------------------------ pieces

    def _own(self, frame: pl.DataFrame, side: bool) -> pl.DataFrame:
        """The rows of one side, with what it adds to the keys."""
        own = (
            self.shape.right_kept if side else [name for name in self.shape.left if name not in self.shape.on]
        )
        return frame.filter(pl.col(SIDE) == side).select(*self.by, *own, NUMBER, GONE)

    def _last(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return pieces.group_by(self.by, maintain_order=True).last().select(pieces.columns)

    def _added(self, runs: Runs, new: pl.DataFrame) -> Runs:
        return added(runs, new, lambda frame: merged_by(frame, self._fewer), oldest=without_gone)

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return folded(pieces, self._last)

    def _updates(self, touched: pl.DataFrame, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """What the keys *touched* are now that the tables' latest rows of them are *left* and *right*."""
        now = touched
        for rows, here in zip((left, right), _HERE, strict=True):
            there = rows.filter(~pl.col(GONE)).drop(NUMBER, GONE, HASH, strict=False)
            there = there.with_columns(pl.lit(True).alias(here))
            now = now.join(there, on=self.by, how="left", nulls_equal=True, maintain_order="left")
        has = [pl.col(here).is_not_null() for here in _HERE]
        stays = {"inner": has[0] & has[1], "left": has[0], "full": has[0] | has[1]}[self.how]
        keys = (pl.col(key).alias(name) for name, key in zip(self.shape.on, self.by, strict=True))
        return (
            now.with_columns(*keys, *hidden(pl.col(NUMBER), upserts(stays)))
            .sort(OFFSET)
            .select(self.nothing_out.columns)
        )
