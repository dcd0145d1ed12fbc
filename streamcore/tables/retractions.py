"""What each update of a table takes back and what it puts in its place, as rows that are only added.

The old row of an update depends on which updates before it were left out, and so on how the table's own log
was cut. Here the updates have come through another log, which does not change any more: the old row of each
is the one before it there. Update *n* of the log takes a row back with the number 2n and adds one with
2n + 1, whichever come with it in a call. An update that changes nothing gives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.batch import (
    DELETES,
    OFFSET,
    OP,
    OP_INSERT,
)
from streamcore.state.base import BaseOperator, types_of
from streamcore.state.emission import hidden
from streamcore.state.grouping import GONE, PLACE, groups_of, together, without_gone, youngest
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, added, as_run, found, hashes_of, merged_by
from streamcore.tables.group import NUMBER

INSERT, DELETE = "insert", "delete"
UPDATE_BEFORE, UPDATE_AFTER = "update_before", "update_after"
"""What the operator says of its rows, with the names of Flink's and Debezium's change logs."""
OLD, _STOOD = "_old ", "_stood"
"""Before the names of columns as they were, and a column: whether the key had a row."""
RESERVED = (HASH, NUMBER, GONE, PLACE, _STOOD)
"""Names that columns can't have."""


@dataclass(frozen=True)
class Retractions(BaseOperator):
    """The changes of a table whose rows are named by *by*; *inputs* are its columns.

    Column *op* says what a row does, *number* grows along the changes of a key. Its pieces are the table.
    """

    by: tuple[str, ...]
    inputs: pl.Schema
    op: str
    number: str

    label: ClassVar[str] = "changes, before and after"

    @property
    def columns(self) -> pl.Schema:
        """The table's, and the two that tell of the change."""
        return pl.Schema({**self.inputs, self.op: pl.String(), self.number: pl.Int64()})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("retractions", self.by, self.op, self.number, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No updates."""
        return pl.DataFrame(schema={**self.inputs, OP: pl.UInt8, OFFSET: pl.Int64})

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """The changes that the updates *rows* make, and the table behind them."""
        (runs,), after = state.kept, max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State((runs,), after, state.emitted), self.nothing_out)
        numbers = state.emitted + 2 * np.arange(frame.height)
        came = frame.select(*self.inputs, DELETES.alias(GONE), pl.Series(NUMBER, numbers, pl.Int64))
        known = [part.select(*self.inputs, GONE, HASH) for part in found(runs, hashes_of(came, self.by))]
        changes = self._changes(came, known)
        newest = came.select(*self.inputs, GONE).unique(self.by, keep="last", maintain_order=True)
        runs = added(runs, as_run(newest, self.by), lambda f: merged_by(f, self._youngest), without_gone)
        return Applied(State((runs,), after, state.emitted + 2 * frame.height), changes)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        (runs,) = state.kept
        if not runs:
            return self.nothing_out.select(*self.inputs)
        return merged_by(pl.concat(runs), self._youngest).filter(~pl.col(GONE)).select(*self.inputs)

    def _youngest(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _changes(self, came: pl.DataFrame, known: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """What *came* takes back and adds; *known* are pieces of its keys, older ones first."""
        knew = pl.concat([part.drop(HASH) for part in known] or [came.drop(NUMBER).clear()])
        rows = pl.concat([knew, came.drop(NUMBER)], rechunk=True)
        before = together(groups_of(rows, self.by)).before[knew.height :]
        stood = pl.Series(_STOOD, before >= 0) & ~rows[GONE][before]
        old = rows.select(*self.inputs)[before].rename({name: OLD + name for name in self.inputs})
        both = pl.concat([came.with_columns(stood), old], how="horizontal")
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(OLD + name)) for name in self.inputs)
        both = both.filter(~(same & pl.col(_STOOD) & ~pl.col(GONE)))
        left, stays = both.filter(_STOOD), both.filter(~pl.col(GONE))
        taken = left.select(
            *(pl.col(OLD + name).alias(name) for name in self.inputs),
            pl.when(GONE).then(pl.lit(DELETE)).otherwise(pl.lit(UPDATE_BEFORE)).alias(self.op),
            pl.col(NUMBER),
        )
        put = stays.select(
            *self.inputs,
            pl.when(_STOOD).then(pl.lit(UPDATE_AFTER)).otherwise(pl.lit(INSERT)).alias(self.op),
            pl.col(NUMBER) + 1,
        )
        return (
            pl.concat([taken, put])
            .sort(NUMBER)
            .rename({NUMBER: self.number})
            .with_columns(hidden(pl.col(self.number), OP_INSERT))
        )
