"""Kinds of windows: which rows belong together, and when nothing more is waited for.

All bounds are microseconds since 1970: of a piece START is the window's start, LAST the last instant that
belongs to it. A kind turns a batch's rows into *pieces*: partial aggregates by
key and window. Pieces of the same window are merged whenever that pays; a window is closed when the
watermark has passed its end. Nothing here depends on how the rows were cut into batches.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from streamcore.batch import Int64s
from streamcore.durations import microseconds_of
from streamcore.errors import BadConfig
from streamcore.state.sessions import FOREVER, LAST, START, Group, merged, pieces_of


class WindowKind(Protocol):
    """One kind of windows. Frozen; a pure function of its arguments."""

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        ...

    @property
    def merges(self) -> bool:
        """Whether windows of one key grow together: then all its pieces are resolved before one is closed."""
        ...

    @property
    def patience(self) -> int:
        """A window is closed when the watermark is past LAST by more than this, in microseconds."""
        ...

    def pieces(
        self, rows: pl.DataFrame, times: Int64s, by: Sequence[str], first: Group, merge: Group
    ) -> pl.DataFrame:
        """The pieces of *rows*, whose event times are *times*: *by*, START, LAST and partials.

        *rows* are in the order of the stream, none of them late. *first* makes partials of rows,
        *merge* partials of partials.
        """
        ...

    def resolve(self, pieces: pl.DataFrame, by: Sequence[str], merge: Group) -> pl.DataFrame:
        """*pieces*, earlier ones first, with one piece left of each window."""
        ...

    def end(self) -> pl.Expr:
        """The window's end as people know it, from LAST."""
        ...


@dataclass(frozen=True)
class Aligned:
    """Windows ``[k * every + offset, … + size)``: tumbling when *every* is *size*, hopping when it is less.

    A row belongs to each window that holds its time. Times are in microseconds.
    """

    size: int
    every: int
    offset: int = 0
    label: str = field(default="windows", repr=False, compare=False)
    merges = False
    patience = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or self.every <= 0:
            raise BadConfig("a window needs a size and a step above zero", got=(self.size, self.every))
        if self.every > self.size:
            raise BadConfig(
                "between windows that begin less often than they are long, rows would be lost",
                got=f"size {self.size} us, every {self.every} us",
                fix="give a step that is no longer than the size",
            )

    def pieces(
        self, rows: pl.DataFrame, times: Int64s, by: Sequence[str], first: Group, merge: Group
    ) -> pl.DataFrame:
        """See :class:`WindowKind`. Rows are aggregated once a step and then copied to its windows."""
        step = times - np.mod(times - self.offset, self.every)
        if self.size % self.every:  # rows of one step differ in the windows that hold them
            places, starts = self._windows(times, step)
            rows, step, count = rows[places], starts, 1
        else:
            count = self.size // self.every
        made = first(rows.with_columns(pl.Series(START, step)), [*by, START])
        if count > 1:
            shifts = np.tile(np.arange(count - 1, -1, -1, dtype=np.int64) * self.every, made.height)
            made = made[np.repeat(np.arange(made.height), count)]
            made = made.with_columns(pl.col(START) - pl.Series(shifts))
            made = merge(made, [*by, START])
        return made.with_columns((pl.col(START) + (self.size - 1)).alias(LAST))

    def resolve(self, pieces: pl.DataFrame, by: Sequence[str], merge: Group) -> pl.DataFrame:
        """See :class:`WindowKind`."""
        return merge(pieces, [*by, START, LAST]).select(pieces.columns)

    def end(self) -> pl.Expr:
        """See :class:`WindowKind`."""
        return pl.col(LAST) + 1

    def windows(self, times: Int64s) -> tuple[Int64s, Int64s]:
        """For each row all starts of the windows that hold it, earlier ones first: (row, start) pairs."""
        places, starts = self._windows(times, times - np.mod(times - self.offset, self.every))
        order = np.lexsort((starts, places))
        return places[order], starts[order]

    def _windows(self, times: Int64s, latest: Int64s) -> tuple[Int64s, Int64s]:
        """For each row all starts of the windows that hold it: (row, start) pairs, rows in order."""
        counts = (self.size - (times - latest) + self.every - 1) // self.every
        places = np.repeat(np.arange(len(times)), counts)
        ends = np.cumsum(counts)
        back = np.arange(len(places)) - np.repeat(ends - counts, counts)
        return places, latest[places] - back * self.every


@dataclass(frozen=True)
class Session:
    """Rows of a key that are at most *gap* microseconds apart, directly or by way of others between them.

    A session's START and LAST are its first and last event time; it ends *gap* after the last.
    """

    gap: int
    label: str = field(default="sessions", repr=False, compare=False)
    merges = True

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise BadConfig("a session needs a gap above zero", got=self.gap)

    @property
    def patience(self) -> int:
        """The gap: a row exactly that much later still belongs to the session."""
        return self.gap

    def pieces(
        self, rows: pl.DataFrame, times: Int64s, by: Sequence[str], first: Group, merge: Group
    ) -> pl.DataFrame:
        """See :class:`WindowKind`."""
        return pieces_of(rows, times, by, self.gap, first)

    def resolve(self, pieces: pl.DataFrame, by: Sequence[str], merge: Group) -> pl.DataFrame:
        """See :class:`WindowKind`."""
        return merged(pieces, by, self.gap, merge)

    def end(self) -> pl.Expr:
        """See :class:`WindowKind`."""
        return pl.col(LAST) + self.gap


@dataclass(frozen=True)
class Global(Session):
    """One window a key, from its first row to its last: it closes at the end of a bounded stream only."""

    gap: int = FOREVER
    label: str = field(default="global", repr=False, compare=False)

    def end(self) -> pl.Expr:
        """See :class:`WindowKind`."""
        return pl.col(LAST) + 1


def tumbling(size: str | dt.timedelta, *, offset: str | dt.timedelta = "0s") -> Aligned:
    """Windows of *size* one after the other, aligned to 1970-01-01 00:00 UTC plus *offset*."""
    micros = microseconds_of(size)
    return Aligned(micros, micros, microseconds_of(offset), f"tumbling {size}")


def hopping(
    size: str | dt.timedelta, *, every: str | dt.timedelta, offset: str | dt.timedelta = "0s"
) -> Aligned:
    """Windows of *size*, a new one *every* so often; a row belongs to all that hold its time."""
    label = f"hopping {size} every {every}"
    return Aligned(microseconds_of(size), microseconds_of(every), microseconds_of(offset), label)


def session(gap: str | dt.timedelta) -> Session:
    """Windows that grow for as long as a row comes at most *gap* after another one of its key."""
    return Session(microseconds_of(gap), f"sessions {gap} apart")


def global_window() -> Global:
    """One window for all rows of a key, which closes when the stream ends; for those that do."""
    return Global()
