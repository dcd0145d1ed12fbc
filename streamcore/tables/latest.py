"""A table of the latest row of each key: a row takes the place of the one before it, or deletes it.

The update of a key has the number of its last row in a call, counted along the log, and is that row. It does
not depend on the state, which is kept to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from streamcore.batch import DELETES, HIDDEN, OFFSET, OP
from streamcore.state.base import BaseOperator, types_of
from streamcore.state.emission import hidden, upserts
from streamcore.state.grouping import GONE, PLACE, without_gone, youngest
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, added, as_run, merged_by

RESERVED = (HASH, PLACE, GONE)
"""Names that columns can't have."""


@dataclass(frozen=True)
class LatestOperator(BaseOperator):
    """The latest row by the columns *by*; *inputs* are the user columns of the rows, which all come out."""

    by: tuple[str, ...]
    inputs: pl.Schema

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
        return repr(("latest", self.by, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, OP: pl.UInt8, OFFSET: pl.Int64})

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* in the places of those with their keys; the last one of each key is an update."""
        (runs,), watermark = state.kept, max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State((runs,), watermark, state.emitted), self.nothing_out)
        placed = self._placed(frame)
        last = placed.with_row_index(PLACE).unique(self.by, keep="last").sort(PLACE)
        updates = self._updates(last, state.emitted + pl.col(PLACE).cast(pl.Int64))
        piece = as_run(last.drop(PLACE), self.by)
        runs = added(runs, piece, lambda merging: merged_by(merging, self._fewer), oldest=without_gone)
        return Applied(State((runs,), watermark, state.emitted + frame.height), updates)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        (runs,) = state.kept
        if not runs:
            return self.nothing_out.drop(HIDDEN)
        pieces = merged_by(pl.concat(runs), self._fewer)
        return self._updates(pieces.filter(~pl.col(GONE)), pl.lit(0, pl.Int64)).drop(HIDDEN)

    # ------------------------------------------------------------ pieces

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _placed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of *frame*, and which of them delete."""
        return frame.select(*self.inputs, DELETES.alias(GONE))

    def _updates(self, placed: pl.DataFrame, numbers: pl.Expr) -> pl.DataFrame:
        """Rows of *placed* as updates with their *numbers*."""
        return placed.select(*self.inputs, *hidden(numbers, upserts(~pl.col(GONE))))
