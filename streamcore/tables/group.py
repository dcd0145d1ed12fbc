"""A table of aggregates by key, kept up to date: ``select by, aggregates from stream group by by``.

Each row that comes has a number, counted along the log. A call of :meth:`GroupOperator.apply` gives one
update for each group that it touched, with the number of the last row that touched it: earlier updates
of the group in that call are left out, as the cut law of :mod:`streamcore.state.operator` allows.

An update holds all that its group has had, which must be looked up for that. So it is kept as it is: of a
group's pieces only the youngest counts, and where runs are merged nothing is added up once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET, OP_UPDATE_AFTER
from streamcore.state.base import BaseOperator, only, types_of
from streamcore.state.emission import counted_from, hidden
from streamcore.state.grouping import youngest
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, added, as_run, found, merged_by

NUMBER = "_n"
"""Hidden column of a piece: the number of the last row in it."""


@dataclass(frozen=True)
class GroupOperator(BaseOperator):
    """Aggregates of all rows by the columns *by*, at least one, over rows that only come."""

    by: tuple[str, ...]
    aggregation: Aggregation
    inputs: pl.Schema

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
        return repr(("groups", self.by, dict(self.aggregation.texts), types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, *self.aggregation.inputs}
        return pl.DataFrame(schema={**only(self.inputs, needed), OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        return self._updates(self._pieces(self.no_rows, 0))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the updates are of the groups that they touch."""
        (runs,), first = state.kept, state.emitted
        watermark = max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State((runs,), watermark, first), self.nothing_out)
        pieces = self._pieces(frame, first)
        groups = self._whole(pieces, found(runs, pieces[HASH].to_numpy()), first)
        runs = added(runs, groups, lambda merging: merged_by(merging, self._youngest))
        return Applied(State((runs,), watermark, first + frame.height), self._updates(groups))

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """Keys and results of *emission*; PolarsError for a value that its type can't hold."""
        return emission.select(*self.by, *self.aggregation.results(), *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        (runs,) = state.kept
        groups = merged_by(pl.concat(runs), self._youngest) if runs else self._pieces(self.no_rows, 0)
        return self.finish(self._updates(groups)).drop(HIDDEN)

    # ------------------------------------------------------------ pieces

    def _pieces(self, frame: pl.DataFrame, first: int) -> pl.DataFrame:
        """A run with a piece for each group of *frame*, whose rows are numbered from *first* on."""
        came = frame.with_columns(counted_from(first, frame.height).alias(NUMBER))
        grouped = came.group_by(self.by, maintain_order=True)
        return as_run(grouped.agg(*self.aggregation.partial(), pl.col(NUMBER).last()), self.by)

    def _whole(self, pieces: pl.DataFrame, known: Sequence[pl.DataFrame], first: int) -> pl.DataFrame:
        """A run of the groups that *pieces* are of, with all that they had before by *known*, older first.

        Rows are numbered from *first* on: those of groups that only have an equal hash are older.
        """
        if not known:
            return pieces
        before = known[0] if len(known) == 1 else merged_by(pl.concat(known), self._youngest)
        if (aligned := self._aligned(before, pieces)) is not None:
            return aligned
        merged = self._merge(pl.concat([before, pieces])).filter(pl.col(NUMBER) >= first)
        return merged_by(merged, lambda run: run)

    def _aligned(self, before: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame | None:
        """As :meth:`_whole`, row by row, unless different groups have the same hash."""
        there, came = before[HASH].to_numpy(), pieces[HASH].to_numpy()
        known = there[np.minimum(there.searchsorted(came), len(there) - 1)] == came
        touched = pieces if known.all() else pieces.filter(pl.Series(known))
        names = [HASH, *self.by]
        if not before.select(names).equals(touched.select(names)):
            return None
        # The keys as they came first: -0.0 and 0.0 are one.
        merged = self.aggregation.merge_two(before, touched.with_columns(before[name] for name in self.by))
        if merged is None or known.all():
            return merged
        return merged_by(pl.concat([merged, pieces.filter(pl.Series(~known))]), lambda run: run)

    def _merge(self, pieces: pl.DataFrame) -> pl.DataFrame:
        grouped = pieces.group_by(self.by, maintain_order=True)
        merged = grouped.agg(*self.aggregation.merge(), pl.col(NUMBER, HASH).last())
        return merged.select(pieces.columns)

    def _youngest(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _updates(self, groups: pl.DataFrame) -> pl.DataFrame:
        return groups.sort(NUMBER).with_columns(hidden(pl.col(NUMBER), OP_UPDATE_AFTER)).drop(NUMBER, HASH)
