"""A join in which each left row comes out, or each row of both sides: with what matches it, or by itself
when nothing can any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import polars as pl

from streamcore.event_time import BEGINNING, END
from streamcore.state.emission import numbered
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, as_run, merged_by, taken
from streamcore.tables.group import NUMBER
from streamcore.tables.join import JoinOperator, plus
from streamcore.tables.join_side import RIGHT, TIME

_STEPS = 16
"""Rows by themselves come out in so many steps of the time for which they wait: each costs a look at all."""


@dataclass(frozen=True)
class OuterJoin(JoinOperator):
    """As :class:`JoinOperator`, with *within*; a left row without a match comes out with nulls.

    *full*: a right one too; a key that is called the same on both sides is then in the type in which the
    sides are compared. Rows by themselves come out when the watermark has passed the last time at which
    another one could match them, rounded up to a sixteenth of what *within* spans.
    """

    full: bool = False

    orderly: ClassVar[bool] = True
    """Rows by themselves come out between pairs, so it matters where the watermark is."""

    @property
    def keeps(self) -> tuple[bool, bool]:
        """See :class:`JoinOperator`."""
        return True, self.full

    @property
    def label(self) -> str:
        """See :class:`JoinOperator`."""
        return f"{self._kind} {super().label}"

    @property
    def columns(self) -> pl.Schema:
        """See :class:`JoinOperator`."""
        return pl.Schema({name: self._shared.get(name, dtype) for name, dtype in self.shape.columns.items()})

    @property
    def definition(self) -> str:
        """See :class:`JoinOperator`."""
        return f"{self._kind} {super().definition}"

    @property
    def lag(self) -> int:
        """A row by itself comes out a step after nothing can match it any more."""
        return super().lag + self._step

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the emission are their pairs, and then the rows that stay alone."""
        watermark = max(state.watermark, watermark)
        left, right, came = self._came(state, rows)
        lefts, rights, matched = state.kept
        pairs = self._matched(state, left, right)
        found = [pairs.select(*self.columns)]
        lefts = added(lefts, left, lambda frame: merged_by(frame, lambda merging: merging))
        matched = added(matched, self._numbers(pairs), lambda frame: merged_by(frame, _once))
        lefts, matched, alone = self._alone(lefts, matched, False, state.watermark, watermark)
        found.append(alone)
        if self.full:
            rights = added(rights, right, lambda frame: merged_by(frame, lambda merging: merging))
            rights, matched, alone = self._alone(rights, matched, True, state.watermark, watermark)
            found.append(alone)
        else:
            rights = self._kept(rights, right, True, watermark)
        emission = numbered(pl.concat(found), state.emitted)
        after = State(
            (lefts, rights, matched), watermark, state.emitted + emission.height, state.arrived + came
        )
        return Applied(after, emission, came - left.height - right.height)

    # ------------------------------------------------------------ columns

    @property
    def _kind(self) -> str:
        return "full" if self.full else "left"

    @cached_property
    def _shared(self) -> dict[str, pl.DataType]:
        """The keys of a full join that are called the same on both sides: either may be by itself."""
        pairs = zip(self.shape.on.items(), self.shape.keys.values(), strict=True)
        return {left: dtype for (left, right), dtype in pairs if self.full and left == right}

    @cached_property
    def _key_of(self) -> dict[str, str]:
        """Of those the hidden columns that hold them."""
        return {
            left: key
            for left, key in zip(self.shape.on, self.shape.keys, strict=True)
            if left in self._shared
        }

    def _output(self) -> list[pl.Expr]:
        return [pl.col(self._key_of.get(name, name)).alias(name) for name in self.columns]

    # ------------------------------------------------------------ rows by themselves

    def _numbers(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """A run of the numbers of the rows in *pairs* that are not alone."""
        numbers = pairs[NUMBER]
        if self.full:
            numbers = pl.concat([numbers, pairs[RIGHT + NUMBER].alias(NUMBER)])
        return as_run(numbers.unique().to_frame(), [NUMBER])

    @property
    def _step(self) -> int:
        assert self.within is not None, "the declaration asks for it"
        return max((self.within[1] - self.within[0]) // _STEPS, 1)

    def _over(self, watermark: int, side: bool) -> int:
        """Rows of *side* before this time wait for nothing: a function of *watermark* that moves in steps."""
        if watermark in (BEGINNING, END):
            return watermark
        assert self.within is not None
        time = plus(watermark, self.within[0] if side else -self.within[1])
        return time - time % self._step

    def _alone(
        self, runs: Runs, matched: Runs, side: bool, before: int, watermark: int
    ) -> tuple[Runs, Runs, pl.DataFrame]:
        """*runs* of *side* and *matched* without the rows that are over, and those of them without a match.

        *before* is the watermark up to which that was done already.
        """
        over = self._over(watermark, side)
        if over <= self._over(before, side):
            return runs, matched, pl.DataFrame(schema=self.columns)
        runs, rows = taken(runs, pl.col(TIME) < over)
        gone = pl.concat([part.drop(HASH) for part in rows] or [self._own(self._no_numbered, side)])
        matched, numbers = taken(matched, pl.col(NUMBER).is_in(gone[NUMBER].implode()))
        known = pl.concat([part.select(NUMBER) for part in numbers] or [gone.select(NUMBER).clear()])
        alone = gone.join(known, on=NUMBER, how="anti").sort(TIME, NUMBER)
        nulls = (
            pl.lit(None, dtype).alias(name)
            for name, dtype in self.columns.items()
            if name not in alone.columns and name not in self._key_of
        )
        return runs, matched, alone.with_columns(nulls).select(self._output())

    @cached_property
    def _no_numbered(self) -> pl.DataFrame:
        return self.no_rows.with_columns(pl.lit(0, pl.Int64).alias(NUMBER))


def _once(matched: pl.DataFrame) -> pl.DataFrame:
    return matched.unique(NUMBER, keep="first", maintain_order=True)
