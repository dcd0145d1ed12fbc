"""Sessions, rows of a key that lie close together in time, and the tables that are made of them.

**Pieces.** What is kept of some rows of a session is a *piece*: the key, the first and the last of their
times, and what is kept of the rows. Pieces whose times are at most the gap apart are of one session, and are
merged; so in whatever order rows come, they end in the same sessions.

**Tables.** A :class:`SessionTable` shows some rows of the sessions of each key, as of a watermark. A call
takes the keys for which rows came, and those whose sessions the watermark may have turned, and compares what
is shown of them before and after: what is new or other is an update, what is no longer there is deleted.
Which sessions were there in between is seen in the log's records, each of which is a call of its own
(``orderly``); so numbers are counted along the log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import HIDDEN, OP_DELETE, OP_UPDATE_AFTER, Int64s
from streamcore.event_time import BEGINNING, microseconds
from streamcore.state.base import BaseOperator
from streamcore.state.emission import counted_from, numbered
from streamcore.state.grouping import PLACE, groups_of
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import (
    HASH,
    Hashes,
    added,
    as_run,
    compacted,
    folded,
    found,
    merged_by,
    taken,
)

START, LAST = "_window_start", "_window_last"
"""Hidden columns of a piece, in microseconds: the time of its first row, and of its last."""
NUMBER = "_n"
"""Hidden column of a piece: the number of the youngest of its rows, counted along the log."""
FOREVER = (1 << 62) - 1
"""The gap of sessions that have no end: all rows of a key are one."""
RESERVED = (START, LAST, NUMBER, HASH, PLACE)
"""Names that columns of the rows can't have."""
_STEPS = 16
"""Sessions are forgotten so often in the time for which they are kept: each time costs a look at all."""


Group = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]
"""Makes fewer rows of those with equal keys: what it leaves has the keys, and what is kept of the rows."""


def pieces_of(rows: pl.DataFrame, times: Int64s, by: Sequence[str], gap: int, first: Group) -> pl.DataFrame:
    """The sessions of *rows*, whose times are *times*: *by*, START, LAST, and what *first* keeps of each."""
    at = pl.Series(START, times)
    return merged(rows.with_columns(at, at.alias(LAST)), by, gap, first)


def merged(pieces: pl.DataFrame, by: Sequence[str], gap: int, merge: Group) -> pl.DataFrame:
    """The sessions that *pieces* make, where those of a key are one if they are at most *gap* apart."""
    if not pieces.height:
        return merge(pieces, [*by, START, LAST])
    groups, starts, lasts = groups_of(pieces, by), pieces[START].to_numpy(), pieces[LAST].to_numpy()
    order = np.lexsort((starts, groups))
    starts, lasts = starts[order], lasts[order]
    begins = first = np.diff(groups[order], prepend=-1) != 0
    if gap < FOREVER:
        reached = np.roll(_running_maximum(lasts, first), 1)
        begins = first | (starts - np.where(first, starts, reached) > gap)
    places, own = np.flatnonzero(begins), np.cumsum(begins) - 1
    bounds = np.empty((2, pieces.height), np.int64)
    bounds[:, order] = starts[places][own], np.maximum.reduceat(lasts, places)[own]
    stamped = pieces.with_columns(pl.Series(START, bounds[0]), pl.Series(LAST, bounds[1]))
    return merge(stamped, [*by, START, LAST])


def _running_maximum(values: Int64s, first: npt.NDArray[np.bool_]) -> Int64s:
    """The greatest of *values* up to each, anew from each *first* on; shapes (rows,)."""
    known, ranks = np.unique(values, return_inverse=True)
    groups = np.cumsum(first) * len(known)  # so one group's are greater than those of the group before
    highest: Int64s = known[np.maximum.accumulate(groups + ranks) - groups]
    return highest


@dataclass(frozen=True)
class SessionTable(BaseOperator, ABC):
    """The parts that all tables of sessions by the columns *by* share; *time* is that of the event time.

    Rows of no session that is still known are left out and count as late, as those of an idle partition may.
    """

    by: tuple[str, ...]
    time: str
    inputs: pl.Schema

    timed: ClassVar[bool] = True
    orderly: ClassVar[bool] = True

    # ------------------------------------------------------------ what a table says of itself

    @property
    @abstractmethod
    def label(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`, as the next three."""

    @property
    @abstractmethod
    def columns(self) -> pl.Schema: ...

    @property
    @abstractmethod
    def definition(self) -> str: ...

    @property
    @abstractmethod
    def no_rows(self) -> pl.DataFrame: ...

    @property
    @abstractmethod
    def gap(self) -> int:
        """Rows of a key that are at most so many microseconds apart are of one session."""

    @property
    @abstractmethod
    def keeps(self) -> int:
        """A session is kept until the watermark is so many microseconds past its last row."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The columns of what :meth:`rows_of` gives that name a row."""

    def times(self, rows: pl.DataFrame) -> pl.Series:
        """The event times of *rows* in microseconds; null for a row that belongs to its key's one session."""
        return microseconds(rows[self.time])

    @abstractmethod
    def placed(self, rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
        """What :meth:`first` needs of *rows* at *times*."""

    @abstractmethod
    def first(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """A :class:`Group` of rows, with NUMBER."""

    @abstractmethod
    def merge(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """A :class:`Group` of pieces, with NUMBER."""

    @abstractmethod
    def rows_of(self, sessions: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """The rows of the table that *sessions*, all of some keys, make as of *watermark*.

        They have LAST and NUMBER, and differ in NUMBER if they differ.
        """

    @abstractmethod
    def turned(self, watermark: int) -> int:
        """Of sessions whose last row is older than this, *watermark* has changed what is shown."""

    # ------------------------------------------------------------ the operator

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; what they and *watermark* change in the table."""
        (runs,), before, after = state.kept, state.watermark, max(state.watermark, watermark)
        came = self.whole(rows)
        pieces, late = self._pieces(came, state.arrived, self.limit(before))
        known = self._sessions(found(runs, self._touched(runs, pieces, before, after)))
        now = self._sessions([known, pieces])
        changes = self._changes(self.rows_of(known, before), self.rows_of(now, after), state.emitted)
        runs = self._kept(added(runs, pieces, self._merged), before, after)
        after_all = State((runs,), after, state.emitted + changes.height, state.arrived + came.height)
        return Applied(after_all, changes, late)

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        none = self.rows_of(self._no_pieces, BEGINNING)
        return self._changes(none, none, 0)

    def shown(self, state: State) -> pl.DataFrame:
        """The rows of the table that may still change."""
        rows = self.rows_of(self._sessions(state.kept[0]), state.watermark)
        return self.finish(self._changes(rows.clear(), rows, 0)).drop(HIDDEN)

    def limit(self, watermark: int) -> int:
        """Sessions whose last row is older than this are kept no longer: it moves in steps."""
        time = watermark - self.keeps
        return max(time - time % max(self.keeps // _STEPS, 1), BEGINNING)

    # ------------------------------------------------------------ sessions

    def _pieces(self, came: pl.DataFrame, first: int, limit: int) -> tuple[pl.DataFrame, int]:
        """A run of what *came*, numbered from *first* on, without what lies before *limit*: so many rows."""
        times = self.times(came)
        rows = self.placed(came, times).with_columns(counted_from(first, came.height).alias(NUMBER))
        known = (times >= limit).fill_null(True)
        if not known.all():
            rows, times = rows.filter(known), times.filter(known)
        ats = times.fill_null(-FOREVER).to_numpy()
        pieces = as_run(pieces_of(rows, ats, self.by, self.gap, self.first), self.by)
        return pieces, came.height - rows.height

    @cached_property
    def _no_pieces(self) -> pl.DataFrame:
        return self._pieces(self.no_rows, 0, BEGINNING)[0]

    def _sessions(self, pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
        together = pl.concat([self._no_pieces, *(part.select(self._no_pieces.columns) for part in pieces)])
        return self._resolved(together)

    def _resolved(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return merged(pieces, [*self.by, HASH], self.gap, self.merge).select(self._no_pieces.columns)

    def _merged(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return merged_by(pieces, lambda run: folded(run, self._resolved))

    def _touched(self, runs: Runs, pieces: pl.DataFrame, before: int, after: int) -> Hashes:
        """The hashes of the keys of *pieces*, and of those for which the watermark changes something."""
        low, high = self.turned(before), self.turned(after)
        turning = pl.col(LAST).is_between(low, high, closed="left")
        parts = [run.filter(turning)[HASH].to_numpy() for run in runs] if low < high else []
        return np.concatenate([pieces[HASH].to_numpy(), *parts])

    def _kept(self, runs: Runs, before: int, after: int) -> Runs:
        """*runs* without the sessions that *after* ends."""
        limit = self.limit(after)
        over = pl.col(LAST) < limit
        if limit == self.limit(before) or not any(run.select(over.any()).item() for run in runs):
            return runs
        return taken(compacted(runs, self._merged), over)[0]

    # ------------------------------------------------------------ emissions

    def _changes(self, before: pl.DataFrame, after: pl.DataFrame, number: int) -> pl.DataFrame:
        """What makes the rows *after* of the rows *before*, numbered from *number* on, by their ends."""
        names = list(self.names)
        other = after.join(before, on=[*names, NUMBER], how="anti", nulls_equal=True).sort(LAST, NUMBER)
        gone = before.join(after, on=names, how="anti", nulls_equal=True).sort(LAST, NUMBER)
        nulls = (pl.lit(None, dtype).alias(name) for name, dtype in gone.schema.items() if name not in names)
        deleted = numbered(gone.with_columns(nulls), number, OP_DELETE)
        return pl.concat([deleted, numbered(other, number + gone.height, OP_UPDATE_AFTER)]).drop(NUMBER)
