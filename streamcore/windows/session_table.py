"""Session windows as a table: from their first row on, or when they are over and again if a late row comes.

A session is named by its start. When a row brings two sessions together, or comes before the first row of
one, the names that are no longer there are deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from streamcore.aggregates.sessions import AggregatedSessions
from streamcore.batch import HIDDEN
from streamcore.event_time import BEGINNING, as_event_time
from streamcore.state.base import types_of
from streamcore.state.operator import BEHIND
from streamcore.state.sessions import LAST, START
from streamcore.windows.assigners import Session
from streamcore.windows.operator import WINDOW_END, WINDOW_START
from streamcore.windows.updated import UpdatedWindows


@dataclass(frozen=True)
class SessionWindowTable(UpdatedWindows, AggregatedSessions):
    """Sessions of *kind*; *of_windows* as of a window.

    With *allowed*, rows count that are late by no more than so many microseconds, judged where they were
    read. With *final* a session has no row before the watermark has passed its end.
    """

    kind: Session
    of_windows: bool = False
    allowed: int = 0
    final: bool = False

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        return f"{self._windows_by}, updated by late rows" if self.final else super().label

    @property
    def names(self) -> tuple[str, ...]:
        """The keys and the start."""
        return (*self.by, START)

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        texts, given = dict(self.aggregation.texts), (self.of_windows, self.allowed, self.final)
        return repr((type(self).__name__, self.kind, self.by, texts, self.time, given, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        late = {BEHIND: pl.Int64()} if self.allowed else {}
        return pl.DataFrame(schema={**super().no_rows.schema, **late})

    def times(self, rows: pl.DataFrame) -> pl.Series:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        times = super().times(rows)
        return times - 1 if self.of_windows else times

    @property
    def gap(self) -> int:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return self.kind.gap

    @property
    def keeps(self) -> int:
        """Until no row can come that is allowed and belongs to the session."""
        return self.kind.gap + self.allowed

    def turned(self, watermark: int) -> int:
        """Final ones have a row from their end on."""
        return max(watermark - self.kind.patience, BEGINNING) if self.final else BEGINNING

    def rows_of(self, sessions: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """Each session, or each that is over."""
        return sessions.filter(pl.col(LAST) < self.turned(watermark)) if self.final else sessions

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The columns of the updates; PolarsError for a value that its type can't hold."""
        dtype = self.inputs[self.time]
        return emission.select(
            *self.by,
            as_event_time(pl.col(START), dtype).alias(WINDOW_START),
            as_event_time(self.kind.end(), dtype).alias(WINDOW_END),
            *self.aggregation.results(),
            *HIDDEN,
        )
