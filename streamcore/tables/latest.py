"""A table of the latest row of each key: a row takes the place of the one before it, or deletes it.

The update of a key has the number of its last row in a call, counted along the log, and is that row. It does
not depend on the state, which is kept to be looked at, and for the time to live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER, OP_UPDATE_BEFORE, SUB, Rejects
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, merged_by, rebuilt
from streamcore.tables.grouping import GONE, PLACE, without_gone, youngest

RESERVED = (HASH, PLACE, GONE)
"""Names that columns can't have."""


@dataclass(frozen=True)
class LatestOperator:
    """The latest row by the columns *by*; *inputs* are the user columns of the rows, which all come out."""

    by: tuple[str, ...]
    inputs: pl.Schema

    timed: ClassVar[bool] = False
    orderly: ClassVar[bool] = False
    lag: ClassVar[int] = 0
    empty: ClassVar[State] = State((Runs(),))

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"latest by {', '.join(self.by)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns *by*."""
        return self.by

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows that come in."""
        return self.inputs

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("latest", self.by, {name: str(dtype) for name, dtype in self.inputs.items()}))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, OP: pl.UInt8, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates."""
        return self._updates(self._placed(self.no_rows), 0)

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """All rows."""
        return Delta(frame.select(self.no_rows.columns), Rejects())

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* in the places of those with their keys; the last one of each key is an update."""
        (runs,), watermark = state.kept, max(state.watermark, watermark)
        frame = pl.concat(rows) if rows else self.no_rows
        if not frame.height:
            return Applied(State((runs,), watermark, state.emitted), self.nothing_out)
        placed = self._placed(frame)
        last = placed.with_row_index(PLACE).unique(self.by, keep="last").sort(PLACE)
        updates = self._updates(last.drop(PLACE), state.emitted + last[PLACE].cast(pl.Int64))
        piece = as_run(last.drop(PLACE), self.by)
        runs = added(runs, piece, lambda merging: merged_by(merging, self._fewer), oldest=without_gone)
        return Applied(State((runs,), watermark, state.emitted + frame.height), updates)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """*emission*, which has its columns already."""
        return emission.select(*self.columns, *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        return self.rows_of(state).drop(HIDDEN)

    def rows_of(self, state: State) -> pl.DataFrame:
        """All rows of the table as updates, as :meth:`finish` takes them."""
        (runs,) = state.kept
        if not runs:
            return self.nothing_out
        pieces = merged_by(pl.concat(runs), self._fewer)
        return self._updates(pieces.filter(~pl.col(GONE)), 0)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by)

    # ------------------------------------------------------------ pieces

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _placed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of *frame*, and which of them delete."""
        gone = pl.col(OP).is_in([OP_DELETE, OP_UPDATE_BEFORE]).alias(GONE)
        return frame.select(*self.inputs, gone)

    def _updates(self, placed: pl.DataFrame, numbers: pl.Series | int) -> pl.DataFrame:
        """Rows of *placed* as updates with their *numbers*."""
        done = pl.when(GONE).then(pl.lit(OP_DELETE, pl.UInt8)).otherwise(pl.lit(OP_UPDATE_AFTER, pl.UInt8))
        return placed.select(
            *self.inputs,
            pl.lit(numbers, pl.Int64).alias(OFFSET),
            pl.lit(0, pl.UInt32).alias(SUB),
            done.alias(OP),
        )
