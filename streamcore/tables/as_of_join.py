"""Each left row with the newest right row of its key at or before its time: an as-of join.

A left row waits until the watermark has passed its time: then no right row can come any more that it would
see, and what it gets depends on the times of the rows alone, not on which came first. Left rows come out in
the order of their times and, of equal ones, in that of the log. Nothing here depends on how it is cut.

**Which right rows may be forgotten.** A left row that still waits, or comes and is not late, has a time that
is not before the watermark. So of a key's right rows up to the watermark the newest hides all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.event_time import BEGINNING, END
from streamcore.state.emission import numbered
from streamcore.state.grouping import PLACE, crowded
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, forgotten, found, hashes_of, merged_by, rebuilt
from streamcore.tables.group import NUMBER
from streamcore.tables.join import JoinOperator
from streamcore.tables.join_side import RIGHT, TIME

EVER = END
"""``oldest`` of a join that takes a right row however old it is."""


@dataclass(frozen=True)
class AsOfJoin(JoinOperator):
    """As :class:`~streamcore.tables.join.JoinOperator` with *within* ``(-oldest, 0)``, one right row at most.

    *outer*: a left row that finds none comes out with nulls; otherwise it does not. Of right rows of one key
    and time the one counts that came last in the log.
    """

    outer: bool = False

    empty: ClassVar[State] = State((Runs(), Runs()))
    """Left rows that wait, in runs by time; right rows."""

    @property
    def keeps(self) -> tuple[bool, bool]:
        """See :class:`~streamcore.tables.join.JoinOperator`."""
        return self.outer, False

    @property
    def label(self) -> str:
        """See :class:`~streamcore.tables.join.JoinOperator`."""
        return f"{'left ' if self.outer else ''}as-of {super().label}"

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.tables.join.JoinOperator`."""
        return f"as-of {self.outer} {super().definition}"

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the emission are the left rows that *watermark* has passed, each with what it sees."""
        watermark = max(state.watermark, watermark)
        left, right, came = self._came(state, rows)
        lefts, rights = state.kept
        waiting = added(lefts, _by_time(left), _by_time)
        ready, waiting = _passed(waiting, watermark)
        emission = numbered(self._seen(ready, Runs((*rights, right))), state.emitted)
        kept = (waiting, self._newest(rights, right, watermark))
        after = State(kept, watermark, state.emitted + emission.height, state.arrived + came)
        return Applied(after, emission, came - left.height - right.height)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, the right ones in the order of this process's hashes."""
        lefts, rights = rebuilt(kept, self.by, self.by)
        return Runs(tuple(_by_time(run) for run in lefts)), rights

    # ------------------------------------------------------------ pieces

    def _seen(self, ready: Sequence[pl.DataFrame], rights: Runs) -> pl.DataFrame:
        """The rows of *ready* in their order, with the newest of *rights* at or before each."""
        if not ready:
            return self.nothing_out.select(*self.columns)
        left = pl.concat(ready).sort(TIME, NUMBER)
        parts = found(rights, hashes_of(left, self.by)) or [rights[-1].clear()]
        right = pl.concat(parts).drop(HASH).rename({NUMBER: RIGHT + NUMBER}).sort(TIME, RIGHT + NUMBER)
        assert self.within is not None
        oldest = -self.within[0]
        seen = left.join_asof(
            right,
            on=TIME,
            by=list(self.by),
            strategy="backward",
            tolerance=None if oldest == EVER else oldest,
            check_sortedness=False,
        )
        if not self.outer:
            seen = seen.filter(pl.col(RIGHT + NUMBER).is_not_null())
        return seen.select(*self.columns)

    def _newest(self, rights: Runs, right: pl.DataFrame, watermark: int) -> Runs:
        """*rights* and *right* without what no left row can see: at once, or when runs are merged."""
        if watermark == END:
            return replace(rights, frames=())
        alive = self._alive(pl.lit(True), watermark)

        def merge(frame: pl.DataFrame) -> pl.DataFrame:
            return merged_by(frame, lambda merging: _unhidden(merging.filter(alive), self.by, watermark))

        rights = added(rights, right, merge)
        return rights if watermark == BEGINNING else forgotten(rights, ~alive)


def _by_time(rows: pl.DataFrame) -> pl.DataFrame:
    """*rows* as a run whose order is that of their times, and then that in which they came."""
    ordered = rows.sort(TIME, NUMBER)
    times = ordered[TIME].to_numpy().view(np.uint64) ^ np.uint64(1 << 63)  # the same order without a sign
    return ordered.with_columns(pl.Series(HASH, times))


def _passed(waiting: Runs, watermark: int) -> tuple[list[pl.DataFrame], Runs]:
    """The rows of *waiting*, sorted by time, that lie before *watermark*, and the runs without them."""
    counts = [int(np.searchsorted(run[TIME].to_numpy(), watermark)) for run in waiting]
    ready = [run[:count] for run, count in zip(waiting, counts, strict=True) if count]
    stay = (run[count:] if count else run for run, count in zip(waiting, counts, strict=True))
    return ready, replace(waiting, frames=tuple(run for run in stay if run.height))


def _unhidden(rows: pl.DataFrame, by: Sequence[str], watermark: int) -> pl.DataFrame:
    """*rows*, which are sorted by hash, without those of a key that a newer one before *watermark* hides."""
    hides = crowded(rows[HASH].to_numpy(), 1) & (rows[TIME].to_numpy() <= watermark)
    if not hides.any():
        return rows
    rivals = rows.select(*by, TIME, NUMBER).with_row_index(PLACE).filter(pl.Series(hides))
    stays = ~hides
    stays[rivals.sort(TIME, NUMBER).unique(by, keep="last")[PLACE].to_numpy()] = True
    return rows.filter(pl.Series(stays))
