"""A table of aggregates by key, kept up to date: ``select by, aggregates from stream group by by``.

Each row that comes has a number, counted along the log. A call of :meth:`GroupOperator.apply` gives one
update for each group that it touched, with the number of the last row that touched it: earlier updates
of the group in that call are left out, as the cut law of :mod:`streamcore.state.operator` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET, OP, OP_UPDATE_AFTER, SUB, Rejects
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, folded, found, merged_by, rebuilt

NUMBER = "_n"
"""Hidden column of a piece: the number of the last row in it."""


@dataclass(frozen=True)
class GroupOperator:
    """Aggregates of all rows by the columns *by*, at least one, over rows that only come."""

    by: tuple[str, ...]
    aggregation: Aggregation
    inputs: pl.Schema

    timed: ClassVar[bool] = False
    orderly: ClassVar[bool] = False
    lag: ClassVar[int] = 0
    empty: ClassVar[State] = State((Runs(),))

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"aggregates by {', '.join(self.by)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The groups' columns."""
        return self.by

    @property
    def columns(self) -> pl.Schema:
        """The keys and the aggregates."""
        keys = {name: self.inputs[name] for name in self.by}
        return pl.Schema({**keys, **self.aggregation.result_types})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        types = {name: str(dtype) for name, dtype in self.inputs.items()}
        return repr(("group", self.by, dict(self.aggregation.texts), types))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, *self.aggregation.inputs}
        columns = {name: dtype for name, dtype in self.inputs.items() if name in needed}
        return pl.DataFrame(schema={**columns, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        return self._updates([self._pieces(self.no_rows, 0)], 0)

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """The needed columns of all rows."""
        return Delta(frame.select(self.no_rows.columns), Rejects())

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the updates are of the groups that they touch."""
        (runs,), first = state.kept, state.emitted
        watermark = max(state.watermark, watermark)
        frame = pl.concat(rows) if rows else self.no_rows
        if not frame.height:
            return Applied(State((runs,), watermark, first), self.nothing_out)
        pieces = self._pieces(frame, first)
        updates = self._updates([*found(runs, pieces[HASH].to_numpy()), pieces], first)
        runs = added(runs, pieces, lambda merging: merged_by(merging, self._fewer))
        return Applied(State((runs,), watermark, first + frame.height), updates)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """Keys and results of *emission*; PolarsError for a value that its type can't hold."""
        return emission.select(*self.by, *self.aggregation.results(), *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        return self.finish(self.rows_of(state)).drop(HIDDEN)

    def rows_of(self, state: State) -> pl.DataFrame:
        """All rows of the table as updates, as :meth:`finish` takes them."""
        return self._updates([*state.kept[0]] or [self._pieces(self.no_rows, 0)], 0)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by)

    # ------------------------------------------------------------ pieces

    def _pieces(self, frame: pl.DataFrame, first: int) -> pl.DataFrame:
        """A run with a piece for each group of *frame*, whose rows are numbered from *first* on."""
        numbered = frame.with_columns(pl.Series(NUMBER, np.arange(first, first + frame.height), pl.Int64))
        grouped = numbered.group_by(self.by, maintain_order=True)
        return as_run(grouped.agg(*self.aggregation.partial(), pl.col(NUMBER).last()), self.by)

    def _merge(self, pieces: pl.DataFrame) -> pl.DataFrame:
        grouped = pieces.group_by(self.by, maintain_order=True)
        merged = grouped.agg(*self.aggregation.merge(), pl.col(NUMBER, HASH).last())
        return merged.select(pieces.columns)

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return folded(pieces, self._merge)

    def _updates(self, pieces: Sequence[pl.DataFrame], first: int) -> pl.DataFrame:
        """The groups of *pieces* (older first) that a row from number *first* on has touched."""
        merged = self._merge(pl.concat(pieces)) if len(pieces) > 1 else pieces[0]
        # Equal hashes may have brought groups that no row has touched.
        touched = merged.filter(pl.col(NUMBER) >= first).sort(NUMBER).drop(HASH)
        return touched.rename({NUMBER: OFFSET}).with_columns(
            pl.lit(0, pl.UInt32).alias(SUB), pl.lit(OP_UPDATE_AFTER, pl.UInt8).alias(OP)
        )
