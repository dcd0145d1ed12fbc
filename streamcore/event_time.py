"""Event time: the watermark of one partition, and which rows come too late.

Times are microseconds since 1970. The watermark says that no row with an earlier time is waited for:
it is the newest event time seen, less the stream's ``max_lateness``, and never goes back. A row is
late when its time lies before the watermark that held *when it came*. That is judged row by row (the
running maximum), once, where the stream is read: whatever the batches, the same rows are late.
Source: Akidau et al., The Dataflow Model, VLDB 2015, https://www.vldb.org/pvldb/vol8/p1792-Akidau.pdf
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import Int64s

BEGINNING = -(1 << 63)
"""The watermark before the first row."""
END = (1 << 63) - 1
"""The watermark behind the last row of a bounded stream."""

_MILLISECOND = 1_000
_FARTHEST = 1 << 62
"""Times beyond it, 146,000 years from 1970, are none: adding a window's size to one could wrap around."""
_NONE = pl.Series([None], dtype=pl.Int64)


class TimeOf(Enum):
    """Event times that no column of the event holds; the value names the column that they get."""

    RECORD = "record_time"
    """The record's time stamp."""
    PROCESSING = "processing_time"
    """The clock when the row is read."""


CLOCK_TYPE = pl.Datetime("us", "UTC")
"""Of the columns that :class:`TimeOf` names."""


class Judged(NamedTuple):
    """``late``: which rows came too late. ``watermark``: after the last row. ``behind``: by how much each
    row's time lies before the watermark that held when it came, in microseconds; shapes (rows,)."""

    late: npt.NDArray[np.bool_]
    watermark: int
    behind: Int64s


def judge(times: Int64s, watermark: int, max_lateness: int) -> Judged:
    """Judge rows with *times*, in the order in which they came, behind *watermark*.

    *times* are as :func:`microseconds` gives them; *max_lateness* is in microseconds, below 2^62. Law:
    judging the rows in pieces, each behind the watermark of the piece before it, gives the same.
    """
    if not len(times):
        return Judged(np.zeros(0, np.bool_), watermark, np.zeros(0, np.int64))
    held = np.empty(len(times) + 1, np.int64)
    held[0], held[1:] = watermark, times - max_lateness
    np.maximum.accumulate(held, out=held)
    late = times < held[:-1]
    return Judged(late, int(held[-1]), np.where(late, held[:-1] - times, 0))


def microseconds(times: pl.Series) -> pl.Series:
    """A stream's event times as Int64 microseconds, nulls kept. Integers count milliseconds.

    A time farther than 146,000 years from 1970 becomes null.
    """
    if times.dtype.is_integer():
        milliseconds = times.cast(pl.Int64, strict=False)
        held = milliseconds.is_between(-_FARTHEST // _MILLISECOND, _FARTHEST // _MILLISECOND)
        usable: pl.Series = milliseconds.zip_with(held, _NONE)
        return usable * _MILLISECOND
    instants = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)), strict=False)
    physical = instants.to_physical()
    kept: pl.Series = physical.zip_with(physical.is_between(-_FARTHEST, _FARTHEST), _NONE)
    return kept


def as_event_time(micros: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """*micros* (Int64) in the type of a stream's event times; a Date's are given as Datetime.

    Instants between two milliseconds are rounded down where *dtype* is an integer.
    """
    if dtype.is_integer():
        return micros.floordiv(_MILLISECOND).cast(dtype)
    shown = pl.Datetime("us") if dtype == pl.Date else dtype
    zone = getattr(shown, "time_zone", None)
    return micros.cast(pl.Datetime("us", zone)).cast(shown)


def shown_type(dtype: pl.DataType) -> pl.DataType:
    """The type that :func:`as_event_time` gives for *dtype*."""
    return pl.Datetime("us") if dtype == pl.Date else dtype
