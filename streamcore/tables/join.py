"""Rows of two streams that match, each pair once: when the later of its rows comes.

Pairs come out in the order of their later rows, and then of their earlier ones, and are numbered in it: that
order is the log's, however its records are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, OFFSET, Rejects
from streamcore.event_time import BEGINNING, END
from streamcore.expressions import condition
from streamcore.state.base import types_of, with_time
from streamcore.state.emission import counted_from, numbered
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, forgotten, matches, merged_by, rebuilt
from streamcore.tables.group import NUMBER
from streamcore.tables.join_side import RIGHT, SIDE, TIME, OfSides

_BOTH = (NUMBER, RIGHT + NUMBER)


@dataclass(frozen=True)
class JoinOperator(OfSides):
    """An inner join of rows that only come.

    With *within*, ``(low, high)`` in microseconds, the right row's time less the left one's lies in it, and
    rows are forgotten when nothing that is not late can match them; without, they are kept for good.
    *where*: a condition over the columns of both.
    """

    within: tuple[int, int] | None
    where: str | None
    _where: pl.Expr | None = field(init=False, repr=False, compare=False)

    empty: ClassVar[State] = State((Runs(), Runs(), Runs()))
    """Left pieces, right pieces, and of left rows that have matched their numbers, where that matters."""

    def __post_init__(self) -> None:
        parsed = None if self.where is None else condition(self.where, self.shape.columns)
        object.__setattr__(self, "_where", parsed)

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"join on {self.shape.text}" + (f" where {self.where}" if self.where else "")

    @property
    def timed(self) -> bool:
        """Whether it is bounded in time."""
        return self.within is not None

    @property
    def lag(self) -> int:
        """A pair's time is that of its left row, and a right one may come *high* later."""
        return 0 if self.within is None else max(self.within[1], 0)

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        shape = self.shape
        told = (dict(shape.on), shape.times, self.within, self.where, types_of(shape.combined))
        return repr(("join", *told))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows of either side."""
        return pl.DataFrame(schema={**self.shape.combined, OFFSET: pl.Int64})

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """All rows; those without a time are rejects where time matters."""
        rejects = Rejects()
        if self.within is not None:
            message = "no event time, so it matches nothing"
            frame, rejects = with_time(frame, frame[TIME].is_null(), stage, message)
        return Delta(frame.select(self.no_rows.columns), rejects)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the emission are the pairs that they make with those before them."""
        watermark = max(state.watermark, watermark)
        left, right, came = self._came(state, rows)
        lefts, rights, none = state.kept
        emission = numbered(self._matched(state, left, right), state.emitted)
        kept = (self._kept(lefts, left, False, watermark), self._kept(rights, right, True, watermark), none)
        after = State(kept, watermark, state.emitted + emission.height, state.arrived + came)
        return Applied(after, emission.drop(_BOTH), came - left.height - right.height)

    def shown(self, state: State) -> pl.DataFrame:
        """The rows of both sides that others may match; column ``side`` says of which one each is."""
        frames = [
            run.select(pl.lit(side).alias("side"), pl.exclude(HASH, NUMBER, TIME, *self.by))
            for side, runs in zip(("left", "right"), state.kept[:2], strict=True)
            for run in runs
        ]
        return pl.concat(frames, how="diagonal") if frames else self.nothing_out.drop(HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by, self.by, [NUMBER])

    # ------------------------------------------------------------ pieces

    def _came(self, state: State, rows: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Runs of the left and the right ones among *rows* that may match something, and how many came."""
        frame = self.whole(rows).drop(OFFSET)
        came = frame.with_columns(counted_from(state.arrived, frame.height).alias(NUMBER))
        alive = came.filter(self._alive(pl.col(SIDE), state.watermark))
        return (
            as_run(self._own(alive, False), self.by),
            as_run(self._own(alive, True), self.by),
            frame.height,
        )

    def _matched(self, state: State, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """The pairs of the rows that came with those before them, and with each other, in their order."""
        lefts, rights = state.kept[:2]
        pairs = [self._pairs(left, run, state.watermark) for run in (*rights, right)]
        pairs += [self._pairs(run, right, state.watermark) for run in lefts]
        return pl.concat(pairs).sort(pl.max_horizontal(_BOTH), pl.min_horizontal(_BOTH))

    def _own(self, frame: pl.DataFrame, side: bool) -> pl.DataFrame:
        """The rows of one side, with its columns only."""
        own = self.shape.right_kept if side else self.shape.left
        time = [] if self.within is None else [TIME]
        return frame.filter(pl.col(SIDE) == side).select(*self.shape.keys, *time, *own, NUMBER)

    def _alive(self, side: pl.Expr, watermark: int) -> pl.Expr:
        """Whether a row may still match one that is not late behind *watermark*."""
        if self.within is None or watermark == BEGINNING:
            return pl.lit(True)
        low, high = self.within
        return (
            pl.when(side)
            .then(pl.col(TIME) >= plus(watermark, low))
            .otherwise(pl.col(TIME) >= plus(watermark, -high))
        )

    def _kept(self, runs: Runs, new: pl.DataFrame, side: bool, watermark: int) -> Runs:
        """*runs* and *new* without what nothing can match any more: at once, or when runs are merged."""
        if self.within is None:
            return added(runs, new, lambda frame: merged_by(frame, lambda merging: merging))
        if watermark == END:
            return replace(runs, frames=())
        alive = self._alive(pl.lit(side), watermark)
        all_of_it = added(runs, new, lambda frame: merged_by(frame, lambda merging: merging.filter(alive)))
        return all_of_it if watermark == BEGINNING else forgotten(all_of_it, ~alive)

    def _pairs(self, left: pl.DataFrame, right: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """The pairs of rows of two runs that match, with the numbers of both.

        Whether a row that came before this call is alive is asked of the *watermark* before it: what a merge
        happened to drop must not show.
        """
        if all(self.keeps):  # they match nothing, and there may be many
            keys = list(self.by)
            smaller = left.height <= right.height
            left, right = (left.drop_nulls(keys), right) if smaller else (left, right.drop_nulls(keys))
        if not left.height or not right.height:
            places = (np.empty(0, np.int64), np.empty(0, np.int64))
        elif left.height <= right.height:
            places = matches(right, left[HASH].to_numpy())
        else:
            places = matches(left, right[HASH].to_numpy())[::-1]
        hidden = [*self.shape.keys, NUMBER, *([] if self.within is None else [TIME])]
        a, b = left.drop(HASH)[places[0]], right.drop(HASH)[places[1]]
        pairs = pl.concat([a, b.rename({name: RIGHT + name for name in hidden})], how="horizontal")
        matching = pairs.filter(*(pl.col(key) == pl.col(RIGHT + key) for key in self.by))
        matching = matching.filter(self._in_time(watermark))
        if self._where is not None:
            matching = matching.filter(self._where)
        return matching.select(*self._output(), NUMBER, RIGHT + NUMBER)

    def _output(self) -> list[pl.Expr]:
        """The columns of what comes out, of a pair."""
        return [pl.col(name) for name in self.columns]

    def _in_time(self, watermark: int) -> pl.Expr:
        if self.within is None:
            return pl.lit(True)
        low, high = self.within
        apart = (pl.col(RIGHT + TIME) - pl.col(TIME)).is_between(low, high)
        if watermark == BEGINNING:
            return apart
        left_came_first = pl.col(NUMBER) < pl.col(RIGHT + NUMBER)
        alive = pl.when(left_came_first).then(pl.col(TIME) >= plus(watermark, -high))
        return apart & alive.otherwise(pl.col(RIGHT + TIME) >= plus(watermark, low))


def plus(time: int, span: int) -> int:
    """*time* and *span* microseconds, within what 64 bits hold."""
    return min(max(time + span, BEGINNING), END)
