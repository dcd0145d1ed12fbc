"""Rows with the window that they are in, as columns: a step, without state."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamcore.batch import Rejects
from streamcore.contracts import StepResult
from streamcore.errors import BadConfig
from streamcore.event_time import as_event_time, microseconds, shown_type
from streamcore.transforms.functions import renumbered
from streamcore.windows.assigners import Aligned
from streamcore.windows.operator import WINDOW_END, WINDOW_START


@dataclass(frozen=True)
class Stamped:
    """Adds ``window_start`` to each row, and ``window_end`` if *end*, by the event time in column *time*.

    A row comes once for each window of *kind* that holds it, older windows first. *dtype*: of which type of
    event time the new columns are; one of whole milliseconds takes windows of whole milliseconds.
    """

    kind: Aligned
    time: str
    dtype: pl.DataType
    end: bool

    @property
    def name(self) -> str:
        return f"{self.kind.label} windows of {self.time}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        """*columns* and the new ones."""
        shown = shown_type(self.dtype)
        added = {WINDOW_START: shown, **({WINDOW_END: shown} if self.end else {})}
        for name in added:
            if name in columns:
                raise BadConfig("a column of this name is there already", got=name, fix="rename it")
        if self.dtype.is_integer() and any(span % 1_000 for span in (self.kind.every, self.kind.offset)):
            raise BadConfig(
                "event times are whole milliseconds, and these windows are not", got=self.kind.label
            )
        return pl.Schema({**columns, **added})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Rows without a time are rejects."""
        times, rejects = microseconds(frame[self.time]), Rejects()
        if times.has_nulls():
            timeless = frame.filter(times.is_null())
            rejects = Rejects.of(
                timeless, stage, "no_time", f"{self.time} holds no time, so it is in no window"
            )
            frame, times = frame.filter(times.is_not_null()), times.drop_nulls()
        places, starts = self.kind.windows(times.to_numpy())
        repeated = len(places) > frame.height
        start = as_event_time(pl.lit(pl.Series(starts)), self.dtype).alias(WINDOW_START)
        end = as_event_time(pl.lit(pl.Series(starts + self.kind.size)), self.dtype).alias(WINDOW_END)
        stamped = frame[places].with_columns(start, *([end] if self.end else []))
        return StepResult(renumbered(stamped) if repeated else stamped, rejects)
