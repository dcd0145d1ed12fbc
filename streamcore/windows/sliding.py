"""Each row with aggregates of the rows of its key that lie in the time up to it: SQL's OVER (RANGE …).

A row comes out when the watermark has passed its time, for then all rows are there that its window can
have. Rows leave by event time, then by the partition they came from, then by their offset, so number *n*
is the same row in any cut.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET
from streamcore.durations import microseconds_of
from streamcore.errors import BadConfig
from streamcore.event_time import BEGINNING, microseconds
from streamcore.state.base import BaseOperator, types_of, with_time
from streamcore.state.emission import numbered
from streamcore.state.operator import UPSTREAM, Applied, Delta, Runs, State
from streamcore.state.order import ORDER, ordered, timeless
from streamcore.state.runs import HASH, added, as_run, forgotten, found, hashes_of, merged_by, rebuilt

AT = "_at"
"""Hidden column of a row: its event time in microseconds."""
_MOST_FRAMES = 32
"""Of rows that wait: beyond it they are put together, since each is looked at whenever rows come."""


@dataclass(frozen=True)
class Sliding:
    """For each row those of its key that are less than *size* microseconds older, or of the same time."""

    size: int

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise BadConfig("a window needs a size above zero", got=self.size)

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return f"sliding {dt.timedelta(microseconds=self.size)}"


def sliding(size: str | dt.timedelta) -> Sliding:
    """For each row the window of *size* that ends with it, as SQL's OVER (RANGE BETWEEN … PRECEDING)."""
    return Sliding(microseconds_of(size))


@dataclass(frozen=True)
class SlidingOperator(BaseOperator):
    """Rows with *inputs*, and aggregates over the window of *kind* that ends with each, by *by*.

    *time* is the column of the event time. State: the rows that wait for the watermark, and runs by key of
    those that have come out, as long as they may belong to the window of another.
    """

    kind: Sliding
    by: tuple[str, ...]
    aggregation: Aggregation
    time: str
    inputs: pl.Schema

    timed: ClassVar[bool] = True
    empty: ClassVar[State] = State((Runs(), Runs()))

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        return f"{self.kind.label} by {', '.join(self.by)}" if self.by else self.kind.label

    @property
    def columns(self) -> pl.Schema:
        """The columns of the rows, and the aggregates."""
        return pl.Schema({**self.inputs, **self.aggregation.result_types})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        told = (self.kind, self.by, dict(self.aggregation.texts), self.time)
        return repr((*told, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with all their columns."""
        return pl.DataFrame(schema={**self.inputs, OFFSET: pl.Int64, UPSTREAM: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No rows, with the columns that :meth:`finish` takes."""
        return self._emission(self._timed([]), Runs(), 0)

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """All columns; rows without a time are rejects."""
        none = microseconds(frame[self.time]).is_null()
        frame, rejects = with_time(frame, none, stage, timeless(self.time))
        return Delta(frame.select(*self.inputs, OFFSET), rejects)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; those come out whose time the watermark has passed."""
        waiting, history = state.kept
        came = self._timed(rows)
        given, watermark = came.height, max(state.watermark, watermark)
        if given and state.watermark > BEGINNING:
            came = came.filter(pl.col(AT) >= state.watermark)
        late = given - came.height
        waiting = replace(waiting, frames=(*waiting, came)) if came.height else waiting
        passed = pl.col(AT) < watermark
        if not any(frame.select(passed.any()).item() for frame in waiting):
            if len(waiting) > _MOST_FRAMES:
                waiting = replace(waiting, frames=(pl.concat(waiting),))
            return Applied(State((waiting, history), watermark, state.emitted), self.nothing_out, late)
        together = pl.concat(waiting)
        leaving, staying = together.filter(passed), together.filter(~passed)
        emission = self._emission(leaving, history, state.emitted)
        history = added(history, as_run(leaving, self.by), lambda run: merged_by(run, lambda rows: rows))
        history = forgotten(history, pl.col(AT) <= watermark - self.kind.size)
        waiting = replace(waiting, frames=(staying,) if staying.height else ())
        after = State((waiting, history), watermark, state.emitted + leaving.height)
        return Applied(after, emission, late)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The rows' columns and the aggregates; PolarsError for a value that its type can't hold."""
        return emission.select(*self.inputs, *self.aggregation.results(), *HIDDEN)

    def shown(self, state: State) -> pl.DataFrame:
        """The rows that wait, with the aggregates as they are now."""
        waiting, history = state.kept
        rows = pl.concat(waiting) if waiting else self._timed([])
        return self.finish(self._emission(rows, history, 0)).drop(HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The rows that wait, and the others in the order of this process's hashes."""
        waiting, history = kept
        return (Runs(tuple(frame for frame in waiting if frame.height)), *rebuilt([history], self.by))

    # ------------------------------------------------------------ rows

    def _timed(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """*rows* with AT and ORDER."""
        frame = self.whole(rows)
        times = microseconds(frame[self.time])
        return ordered(frame, times).with_columns(times.alias(AT))

    def _emission(self, leaving: pl.DataFrame, history: Runs, number: int) -> pl.DataFrame:
        """*leaving* by ORDER, numbered from *number* on, with the partials of their windows."""
        before = [run.drop(HASH) for run in found(history, hashes_of(leaving, self.by))]
        rows = pl.concat([*before, leaving]).sort(ORDER, maintain_order=True)
        rows = rows.with_row_index(OFFSET)
        group = [HASH] if self.by else []
        if self.by:  # groups by number: rolling() keeps their order, but puts a null key last
            rows = rows.sort(*self.by, maintain_order=True).with_columns(
                pl.struct(self.by).rle_id().alias(HASH)
            )
        windows = rows.rolling(AT, period=f"{self.kind.size}i", closed="right", group_by=group or None)
        made = windows.agg(self.aggregation.partial()).drop(AT, *group)
        found_all = pl.concat([rows.drop(group), made], how="horizontal").sort(OFFSET)
        own = found_all.filter(pl.col(AT) >= leaving[AT].min()) if leaving.height else found_all.clear()
        return numbered(own, number)
