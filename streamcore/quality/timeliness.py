"""How old rows are when they are looked at, as a state that merges."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.quality.spans import microseconds

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


@dataclass(frozen=True, slots=True)
class Ages:
    """``timely`` of the ``count`` rows that have a time are not older than allowed; ``newest`` in
    microseconds."""

    count: int = 0
    timely: int = 0
    newest: int | None = None

    def merge(self, other: Ages) -> Ages:
        """Both together."""
        newest = [age for age in (self.newest, other.newest) if age is not None]
        return Ages(self.count + other.count, self.timely + other.timely, max(newest, default=None))


@dataclass(frozen=True, slots=True)
class Aging:
    """Rows are timely when *column* lies at most *max_age* before *as_of*; what lies after it is timely
    too."""

    column: str
    max_age: dt.timedelta
    as_of: dt.datetime

    def check(self, columns: pl.Schema) -> None:
        """BadConfig unless there is such a column, of dates or times. A time without a zone is taken as
        UTC."""
        check_columns([self.column], columns, "in timeliness")
        dtype = columns[self.column]
        if not isinstance(dtype, pl.Date | pl.Datetime):
            raise BadConfig(
                f"timeliness needs a column of times, {self.column!r} has none",
                got=str(dtype),
                allowed=["date", "datetime", "naive_datetime"],
                fix="give its type in columns:",
            )

    def of(self, frame: pl.DataFrame) -> Ages:
        """The ages of the rows of *frame*."""
        times = microseconds(frame[self.column].drop_nulls())
        if not len(times):
            return Ages()
        oldest = (self.as_of - self.max_age - EPOCH) // dt.timedelta(microseconds=1)
        newest = times.max()
        assert isinstance(newest, int)
        return Ages(len(times), int((times >= oldest).sum()), newest)
