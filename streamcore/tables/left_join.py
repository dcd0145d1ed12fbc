"""A join in which each left row comes out: with what matches it, or by itself when nothing can any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamcore.event_time import BEGINNING, END
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import added, as_run, merged_by
from streamcore.tables.group import NUMBER
from streamcore.tables.join import JoinOperator, numbered, plus
from streamcore.tables.join_side import TIME

_STEPS = 16
"""Rows by themselves come out in so many steps of the time for which they wait: each costs a look at all."""


@dataclass(frozen=True)
class LeftJoinOperator(JoinOperator):
    """As :class:`JoinOperator`, with *within*; a left row without a match comes out with nulls.

    That is when the watermark has passed the last time at which a right one could match it, rounded up to a
    sixteenth of what *within* spans.
    """

    keeps: ClassVar[tuple[bool, bool]] = (True, False)
    orderly: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """See :class:`JoinOperator`."""
        return f"left {super().label}"

    @property
    def definition(self) -> str:
        """See :class:`JoinOperator`."""
        return f"left {super().definition}"

    @property
    def lag(self) -> int:
        """A row by itself comes out a step after nothing can match it any more."""
        return super().lag + self._step

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the emission are their pairs, and then the left rows that stay alone."""
        watermark = max(state.watermark, watermark)
        left, right, came = self._came(state, rows)
        lefts, rights, matched = state.kept
        pairs = self._matched(state, left, right)
        lefts = added(lefts, left, lambda frame: merged_by(frame, lambda merging: merging))
        numbers = as_run(pairs.select(NUMBER).unique(), [NUMBER])
        matched = added(matched, numbers, lambda frame: merged_by(frame, _once))
        over, alone = self._over(watermark), pl.DataFrame(schema=self.columns)
        if over > self._over(state.watermark):
            lefts, matched, alone = self._left_alone(lefts, matched, over)
        found = pl.concat([pairs.select(*self.columns), alone])
        emission = numbered(found, state.emitted)
        kept = (lefts, self._kept(rights, right, True, watermark), matched)
        after = State(kept, watermark, state.emitted + emission.height, state.arrived + came)
        return Applied(after, emission, came - left.height - right.height)

    # ------------------------------------------------------------ rows by themselves

    @property
    def _high(self) -> int:
        assert self.within is not None, "the declaration asks for it"
        return self.within[1]

    @property
    def _step(self) -> int:
        assert self.within is not None
        return max((self.within[1] - self.within[0]) // _STEPS, 1)

    def _over(self, watermark: int) -> int:
        """Left rows before this time wait for nothing: a function of *watermark* that moves in steps."""
        if watermark in (BEGINNING, END):
            return watermark
        time = plus(watermark, -self._high)
        return time - time % self._step

    def _left_alone(self, lefts: Runs, matched: Runs, over: int) -> tuple[Runs, Runs, pl.DataFrame]:
        """*lefts* and *matched* without the rows before *over*, and those of them that have not matched."""
        done = pl.col(TIME) < over
        gone = pl.concat([run.filter(done) for run in lefts] or [self._no_left])
        known = pl.concat([run.select(NUMBER) for run in matched] or [gone.select(NUMBER).clear()])
        alone = gone.join(known, on=NUMBER, how="anti").sort(TIME, NUMBER)
        nulls = (pl.lit(None, dtype).alias(name) for name, dtype in self.shape.right_kept.items())
        stay = (run.filter(~done) for run in lefts)
        numbers = gone.select(NUMBER)
        still = (run.join(numbers, on=NUMBER, how="anti", maintain_order="left") for run in matched)
        return (
            tuple(run for run in stay if run.height),
            tuple(run for run in still if run.height),
            alone.with_columns(nulls).select(*self.columns),
        )

    @property
    def _no_left(self) -> pl.DataFrame:
        return pl.DataFrame(schema={**self.shape.left, TIME: pl.Int64, NUMBER: pl.Int64})


def _once(matched: pl.DataFrame) -> pl.DataFrame:
    return matched.unique(NUMBER, keep="first", maintain_order=True)
