"""The times of a stream as declared, checked: where event time comes from, and what is waited for."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from streamcore.durations import duration
from streamcore.errors import BadConfig
from streamcore.event_time import CLOCK_TYPE, TimeOf
from streamcore.expressions import check_columns

PROCESSING_TIME, RECORD_TIME = TimeOf.PROCESSING, TimeOf.RECORD
Duration = str | dt.timedelta

_MINUTE = dt.timedelta(minutes=1)
_BY_THE_CLOCK = dt.timedelta(seconds=5)
"""In processing time: how long nothing may come until the clock is told instead."""


@dataclass(frozen=True)
class Times:
    """Of :class:`~streamcore.graph.Source`: the fields of the same names, and all ``columns`` of its rows."""

    columns: pl.Schema
    event_time: str | None
    time_of: TimeOf | None
    max_lateness: dt.timedelta
    idle_after: dt.timedelta
    close_after: dt.timedelta | None
    max_future: dt.timedelta | None

    @classmethod
    def of(
        cls,
        stream: str,
        columns: pl.Schema,
        event_time: str | TimeOf | None,
        max_lateness: Duration,
        idle_after: Duration | None,
        close_after: Duration | None,
        max_future: Duration | None,
    ) -> Times:
        """Check them against the *columns* of *stream*'s events.

        BadConfig for a column that is missing or no time, one that has the name of the clock's, and for a
        lateness in processing time, in which no row is late.
        """
        lateness = duration(max_lateness)
        idle = None if idle_after is None else duration(idle_after)
        close = None if close_after is None else duration(close_after)
        future = None if max_future is None else duration(max_future)
        if not isinstance(event_time, TimeOf):
            if event_time is not None:
                _check_time(stream, event_time, columns)
            return cls(columns, event_time, None, lateness, idle or _MINUTE, close, future)
        if event_time.value in columns:
            raise BadConfig(
                f"stream {stream!r} has a column with the name of its time",
                got=event_time.value,
                fix="rename the column, or make it the event time",
            )
        columns = pl.Schema({**columns, event_time.value: CLOCK_TYPE})
        if event_time is TimeOf.RECORD:  # a record is not behind itself
            return cls(columns, event_time.value, event_time, lateness, idle or _MINUTE, close, None)
        if lateness:
            raise BadConfig("in processing time no row is late", got=lateness, fix="leave max_lateness= away")
        close = close or _BY_THE_CLOCK
        return cls(columns, event_time.value, event_time, lateness, idle or close, close, None)


def _check_time(stream: str, event_time: str, columns: pl.Schema) -> None:
    check_columns([event_time], columns, f"in stream {stream!r}")
    dtype = columns[event_time]
    if dtype != pl.Int64 and not isinstance(dtype, pl.Datetime | pl.Date):
        raise BadConfig(
            f"event_time {event_time!r} must be a time",
            got=str(dtype),
            allowed=["Datetime", "Date", "Int64 (milliseconds since 1970)"],
        )
