"""The first row of each key: the others are left out, for good or for a while.

With *within* a row passes again when its event time lies more than that after the time of the last row
of its key that passed, or before it. The operator only appends: rows leave in the log's order.

**Why keys may be forgotten.** With *within* a key's time *p* is kept until the watermark *w* is more than
*within* past it. A row that comes then has a time *t*; if ``t < w`` it is late and left out, judged by the
watermark of the state before the call, which only rows of idle partitions can lie behind (a row is judged
in its own partition, whose watermark is not older). Else ``t - p >= w - p > within``: the row passes
whether *p* is known or not. So it makes no difference when, or if, a piece is dropped, and rows of a
call, however many it has, are judged by all pieces that the call before left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.batch import OFFSET, Int64s, Rejects
from streamcore.event_time import BEGINNING, microseconds
from streamcore.state.base import BaseOperator, types_of, with_time
from streamcore.state.emission import numbered
from streamcore.state.grouping import PLACE, groups_of, youngest
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, forgotten, found, hashes_of, merged_by
from streamcore.tables.passing import passing

PASSED = "_passed"
"""Column of the pieces, with *within*: the time of the key's last row that passed, in microseconds."""
RESERVED = (HASH, PASSED, PLACE)
"""Names that columns of *by* can't have."""


@dataclass(frozen=True)
class FirstOperator(BaseOperator):
    """The first row of each group of *by*, or the first for *within* microseconds (below 2^62).

    *inputs* are the user columns of the rows that come in, all of which come out. *time* is the column of
    the event time, which only *within* needs. Its pieces are the keys of which a row has passed.
    """

    by: tuple[str, ...]
    inputs: pl.Schema
    time: str | None = None
    within: int | None = None

    @property
    def label(self) -> str:
        """Of which keys."""
        return f"first by {', '.join(self.by)}"

    @property
    def timed(self) -> bool:
        """Whether event time matters: only with *within*.

        Then no row that comes out was late. Without, late ones come out, and are late still.
        """
        return self.within is not None

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows that come in."""
        return self.inputs

    @property
    def definition(self) -> str:
        """What it computes, as text: the same for the same results, in any process."""
        time = self.time if self.timed else None
        return repr(("first", self.by, time, self.within, types_of(self.inputs)))

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """The columns of *frame* that are needed. With *within* rows need a time: *stage* refuses others."""
        rejects = Rejects()
        if self.within is not None:
            timeless = microseconds(frame[self._time]).is_null()
            message = f"{self.time} holds no time, so it can't be said what it comes within"
            frame, rejects = with_time(frame, timeless, stage, message)
        return Delta(frame.select(self.no_rows.columns), rejects)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """The state with *rows*, and those of them that pass, numbered; how many were late."""
        came = self.whole(rows).drop(OFFSET)
        given, times = came.height, self._times(came)
        if self.timed and given and (on_time := times >= state.watermark).sum() < given:
            came, times = came.filter(pl.Series(on_time)), times[on_time]
        (runs,), emission, after = state.kept, self.nothing_out, max(state.watermark, watermark)
        if came.height:
            passed = self._passing(runs, came, times)
            passes = came[passed]
            runs = self._with(runs, self._pieces(passes, times[passed]))
            emission = numbered(passes, state.emitted)
        if after > state.watermark:
            runs = self._remembered(runs, after)
        return Applied(State((runs,), after, state.emitted + emission.height), emission, given - came.height)

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, OFFSET: pl.Int64})

    def shown(self, state: State) -> pl.DataFrame:
        """The keys of which a row has passed."""
        (runs,) = state.kept
        pieces = merged_by(pl.concat(runs), self._fewer) if runs else self._no_pieces
        return pieces.select(self.by)

    # ------------------------------------------------------------ rows

    @property
    def _time(self) -> str:
        assert self.time is not None, "the declaration asks for a time where there is within="
        return self.time

    def _times(self, rows: pl.DataFrame) -> Int64s:
        """Microseconds, shape (rows,); all 0 where time does not matter, so that no row passes again."""
        if self.within is None:
            return np.zeros(rows.height, np.int64)
        times: Int64s = microseconds(rows[self._time]).to_numpy()
        return times

    def _passing(self, runs: Runs, came: pl.DataFrame, times: Int64s) -> Int64s:
        """Places of the rows of *came*, none late, that pass."""
        parts = [part.select(self._no_pieces.columns) for part in found(runs, hashes_of(came, self.by))]
        known, within = pl.concat([self._no_pieces, *parts]), self.within or 0
        # A key is known by the place of its first piece or row.
        keys = groups_of(pl.concat([known.select(self.by), came.select(self.by)]), self.by)
        low, high = np.full((2, len(keys)), BEGINNING)
        last = known[PASSED].to_numpy() if self.within is not None else np.zeros(known.height, np.int64)
        # Older pieces stand first, and of several values for one place numpy keeps the last.
        low[keys[: known.height]], high[keys[: known.height]] = last - within, last + within
        return passing(keys[known.height :], times, low, high, within)

    # ------------------------------------------------------------ pieces

    @cached_property
    def _no_pieces(self) -> pl.DataFrame:
        passed = {PASSED: pl.Int64()} if self.within is not None else {}
        return pl.DataFrame(schema={**{name: self.inputs[name] for name in self.by}, **passed})

    def _pieces(self, passes: pl.DataFrame, times: Int64s) -> pl.DataFrame:
        keys = passes.select(self.by)
        return keys.with_columns(pl.Series(PASSED, times)) if self.within is not None else keys

    def _with(self, runs: Runs, pieces: pl.DataFrame) -> Runs:
        piece = self._fewer(as_run(pieces, self.by))
        return added(runs, piece, lambda frame: merged_by(frame, self._fewer))

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _remembered(self, runs: Runs, watermark: int) -> Runs:
        """*runs* without most of the times that make no difference behind *watermark*."""
        if self.within is None or watermark - self.within <= BEGINNING:
            return runs
        return forgotten(runs, pl.col(PASSED) < watermark - self.within)
