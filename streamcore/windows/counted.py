"""Windows of so many rows of a key, in the order in which the log has them.

They know no time: no row is late, and what is first or last goes by the log's order, which among the
partitions of a topic is no certain one. Row *n* of the log completes one window at most, so *n* is the
number of what comes out. What is not complete comes out at the end of a bounded stream, behind all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET, OP_INSERT
from streamcore.errors import BadConfig
from streamcore.event_time import END
from streamcore.state.base import BaseOperator, only, types_of
from streamcore.state.emission import counted_from, hidden
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, as_run, found, hashes_of, merged_by

WINDOW_NUMBER = "window_number"
"""Column of the emissions: which window of its key it is, Int64, from 0."""
SEEN = "_seen"
"""Hidden column of a piece: how many rows of the key have come, in all its windows."""


@dataclass(frozen=True)
class Counted:
    """Windows of *size* rows each."""

    size: int

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise BadConfig("a window needs a number of rows above zero", got=self.size)

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return f"windows of {self.size} rows"


def counted(size: int) -> Counted:
    """Windows of *size* rows of a key each, in the order in which they came together."""
    return Counted(size)


@dataclass(frozen=True)
class CountedOperator(BaseOperator):
    """Aggregates of each *kind.size* rows by the columns *by*.

    A piece of state is all that is known of a key: SEEN, and the partials of its last window. A later piece
    takes the place of an earlier one.
    """

    kind: Counted
    by: tuple[str, ...]
    aggregation: Aggregation
    inputs: pl.Schema

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        return f"{self.kind.label} by {', '.join(self.by)}" if self.by else self.kind.label

    @property
    def columns(self) -> pl.Schema:
        """The columns of the emissions."""
        keys = {name: self.inputs[name] for name in self.by}
        return pl.Schema({**keys, WINDOW_NUMBER: pl.Int64(), **self.aggregation.result_types})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr((self.kind, self.by, dict(self.aggregation.texts), types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, *self.aggregation.inputs}
        return pl.DataFrame(schema={**only(self.inputs, needed), OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No windows, with the columns that :meth:`finish` takes."""
        return self._emission(self._windows(self._placed(self.no_rows, Runs(), 0)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the windows that they complete, and at the end the others."""
        (runs,), arrived = state.kept, state.arrived
        frame, complete = self.whole(rows), self.nothing_out
        if frame.height:
            windows = self._windows(self._placed(frame, runs, arrived))
            complete = self._emission(windows.filter(self._is_complete))
            runs = added(runs, as_run(self._last(windows), self.by), self._last_of_runs)
        arrived += frame.height
        emitted = max(state.emitted, arrived)  # behind the end repeats may still come
        if watermark == END and runs:
            rest = self._open(runs)
            rest = rest.with_columns(counted_from(arrived, rest.height))
            complete = pl.concat([complete, self._emission(rest)])
            runs, emitted = replace(runs, frames=()), arrived + rest.height
        return Applied(State((runs,), max(state.watermark, watermark), emitted, arrived), complete)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The emission's columns; PolarsError for a value that its type can't hold."""
        return emission.select(*self.by, WINDOW_NUMBER, *self.aggregation.results(), *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The windows that are not complete, with their aggregates so far."""
        (runs,) = state.kept
        return self.finish(self._emission(self._open(runs)) if runs else self.nothing_out).drop(HIDDEN)

    # ------------------------------------------------------------ pieces

    @property
    def _is_complete(self) -> pl.Expr:
        return pl.col(SEEN) == (pl.col(WINDOW_NUMBER) + 1) * self.kind.size

    def _placed(self, frame: pl.DataFrame, runs: Runs, first: int) -> pl.DataFrame:
        """What was there, and a piece for each window of *frame*, whose rows are numbered from *first* on."""
        numbers = counted_from(first, frame.height)
        rows = frame.with_columns(numbers)
        before = self._known(runs, rows)
        place = pl.int_range(pl.len(), dtype=pl.Int64)
        rows = rows.with_columns((place.over(self.by) if self.by else place).alias(SEEN))
        if self.by:
            rows = rows.join(
                before.select(*self.by, pl.col(SEEN).alias("_before")),
                on=self.by,
                how="left",
                nulls_equal=True,
                maintain_order="left",
            ).with_columns((pl.col(SEEN) + pl.col("_before").fill_null(0)).alias(SEEN))
        elif before.height:
            rows = rows.with_columns(pl.col(SEEN) + before[SEEN].item())
        rows = rows.with_columns((pl.col(SEEN) // self.kind.size).alias(WINDOW_NUMBER))
        made = rows.group_by([*self.by, WINDOW_NUMBER], maintain_order=True).agg(
            *self.aggregation.partial(), pl.col(SEEN).last() + 1, pl.col(OFFSET).last()
        )
        unfinished = before.filter(~self._is_complete).select(made.columns)
        return pl.concat([unfinished, made])

    def _known(self, runs: Runs, rows: pl.DataFrame) -> pl.DataFrame:
        """What was known of the keys of *rows*, with a number for each, as if it were a row's."""
        pieces = found(runs, hashes_of(rows, self.by))
        last = self._last(pl.concat(pieces)) if pieces else self._nothing_known
        known = last.join(rows, on=self.by, how="semi", nulls_equal=True) if self.by else last
        return known.with_columns(pl.lit(0, pl.Int64).alias(OFFSET))

    @cached_property
    def _nothing_known(self) -> pl.DataFrame:
        keys = {name: self.inputs[name] for name in self.by}
        return pl.DataFrame(
            schema={**keys, WINDOW_NUMBER: pl.Int64, **self.aggregation.partials, SEEN: pl.Int64}
        )

    def _windows(self, pieces: pl.DataFrame) -> pl.DataFrame:
        """*pieces* (older first) with one left of each window."""
        return pieces.group_by([*self.by, WINDOW_NUMBER], maintain_order=True).agg(
            *self.aggregation.merge(), pl.col(SEEN).last(), pl.col(OFFSET).last()
        )

    def _last(self, pieces: pl.DataFrame) -> pl.DataFrame:
        """The last piece of each key; older ones stand first."""
        last = pieces.unique(self.by, keep="last", maintain_order=True) if self.by else pieces[-1:]
        return last.select(self._nothing_known.columns)

    def _last_of_runs(self, pieces: pl.DataFrame) -> pl.DataFrame:
        def last(frame: pl.DataFrame) -> pl.DataFrame:
            return frame.unique(self.by, keep="last", maintain_order=True) if self.by else frame[-1:]

        return merged_by(pieces, last)

    def _open(self, runs: Runs) -> pl.DataFrame:
        """The windows that are not complete, by their keys."""
        last = self._last(pl.concat(runs)).filter(~self._is_complete)
        return (last.sort(self.by) if self.by else last).with_columns(pl.lit(0, pl.Int64).alias(OFFSET))

    def _emission(self, windows: pl.DataFrame) -> pl.DataFrame:
        return (
            windows.drop(SEEN, HASH, strict=False)
            .select(*self.by, WINDOW_NUMBER, *self.aggregation.partials, OFFSET)
            .with_columns(hidden(pl.col(OFFSET), OP_INSERT))
            .sort(OFFSET)
        )
