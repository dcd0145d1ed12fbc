"""A table whose column is the key of another, as a table of the pairs, kept up to date from both sides.

The log is sorted by the foreign key, so that a partition has all left rows of its right ones. A left row
updates its own pair, a right one those of all left rows that are there when it comes. Each of these updates
has a number of its own, counted along the log: a pair that a right row updates has that of its place among
them, which are in the order of their last left rows. A call gives the last update of each pair, so what it
gives is a function of the rows up to that one, however the log is cut.

Where left rows move from one foreign key to another, the pair that leaves and the one that comes may lie in
two partitions, of which nobody knows which one tells first. So pairs are a table by both keys
(:mod:`streamcore.tables.moves`), and one partition makes them a table by the left one: :class:`NewestPair`.
A pair and its deletion come from one partition, in their order; so in the end each left key has the one pair
that is, and until then that of its newest left row that was told of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.batch import DELETES, OFFSET, OP, OP_DELETE, Int64s
from streamcore.state.base import types_of
from streamcore.state.emission import counted_from, hidden, upserts
from streamcore.state.grouping import GONE, without_gone
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, Runs, added, as_run, folded, found, hashes_of, merged_by, rebuilt
from streamcore.tables.group import NUMBER
from streamcore.tables.join_side import SIDE, OfSides
from streamcore.tables.moves import VERSION
from streamcore.tables.ordering import Order
from streamcore.tables.top_of_table import TopOverTable

_LIVE = "_left"
"""Hidden column: how many left rows of the key are there."""


@dataclass(frozen=True)
class ForeignJoin(OfSides):
    """A join of a table by *of* with one whose key are the right columns of *shape*'s keys.

    Nulls match nothing. With *outer* left rows without a right one have a pair with nulls, else none.
    """

    of: tuple[str, ...]
    outer: bool

    @property
    def keeps(self) -> tuple[bool, bool]:
        """See :class:`OfSides`."""
        return self.outer, False

    @property
    def empty(self) -> State:
        """The latest rows of the left and of the right table."""
        return State((Runs(), Runs()))

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"{'left ' if self.outer else ''}join of tables on {self.shape.text}"

    @property
    def key(self) -> tuple[str, ...]:
        """The left table's key, and the foreign one."""
        return tuple(dict.fromkeys([*self.of, *self.shape.on]))

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        shape = self.shape
        return repr(("foreign join", dict(shape.on), self.of, self.outer, types_of(shape.combined)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* in the places of those with their keys; the updates are of the pairs touched."""
        (lefts, rights), watermark = state.kept, max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State(state.kept, watermark, state.emitted, state.arrived), self.nothing_out)
        arrived = state.arrived + frame.height
        frame = frame.with_columns(
            counted_from(state.arrived, frame.height).alias(NUMBER), DELETES.alias(GONE)
        )
        left, right = self._own(frame, False), self._own(frame, True)
        group = self._group(lefts, left, right)
        numbers = state.emitted + self._numbers(frame, group, right, state.arrived)
        newest = self._last(right, self.by)
        touched = self._touched(self._last(left, self._pair), group, newest, numbers, state.arrived)
        known = [part.drop(HASH) for part in found(rights, hashes_of(touched, self.by))]
        updates = self._updates(touched, self._last(pl.concat([*known, newest]), self.by))
        kept = (
            self._added(lefts, self._last(left, self._pair), self._pair),
            self._added(rights, newest, self.by),
        )
        return Applied(State(kept, watermark, int(numbers[-1]), arrived), updates)

    def shown(self, state: State) -> pl.DataFrame:
        """The pairs."""
        left, right = (
            self._last(pl.concat([run.drop(HASH) for run in runs] or [self._own(self._nothing, side)]), keys)
            for side, runs, keys in zip((False, True), state.kept, (self._pair, self.by), strict=True)
        )
        there = self._updates(left.with_columns(pl.col(NUMBER).alias(OFFSET)), right)
        return there.filter(pl.col(OP) != OP_DELETE).select(*self.columns)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by, self.by)

    # ------------------------------------------------------------ pieces

    @cached_property
    def _nothing(self) -> pl.DataFrame:
        return self.no_rows.with_columns(pl.lit(0, pl.Int64).alias(NUMBER), pl.lit(False).alias(GONE))

    @property
    def _pair(self) -> list[str]:
        """What names a left piece."""
        return [*self.by, *self.key]

    def _own(self, frame: pl.DataFrame, side: bool) -> pl.DataFrame:
        """The rows of one side, with its columns only."""
        own = self.shape.right_kept if side else self.shape.left
        return frame.filter(pl.col(SIDE) == side).select(*self.by, *own, NUMBER, GONE)

    def _last(self, pieces: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        return pieces.group_by(keys, maintain_order=True).last().select(pieces.columns)

    def _added(self, runs: Runs, new: pl.DataFrame, keys: Sequence[str]) -> Runs:
        def fewer(pieces: pl.DataFrame) -> pl.DataFrame:
            return folded(pieces, lambda some: self._last(some, keys))

        return added(runs, as_run(new, self.by), lambda f: merged_by(f, fewer), oldest=without_gone)

    # ------------------------------------------------------------ which pairs are touched, and how often

    def _group(self, lefts: Runs, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """All left rows of the keys of *right*, older first, those in *lefts* and those that come now."""
        known = [part.drop(HASH) for part in found(lefts, hashes_of(right, self.by))]
        return pl.concat([*known, left]).join(right, on=self.by, how="semi").sort(NUMBER)

    def _numbers(self, frame: pl.DataFrame, group: pl.DataFrame, right: pl.DataFrame, first: int) -> Int64s:
        """How many updates the rows of *frame* before each one make, and at the end all."""
        made = np.where(frame[SIDE].to_numpy(), 0, 1)
        stood = (~pl.col(GONE)).shift(1).over(self._pair).fill_null(False)
        came = (~pl.col(GONE)).cast(pl.Int64) - stood.cast(pl.Int64)
        changes = group.select(*self.by, NUMBER, came.alias(_LIVE))
        asked = right.select(*self.by, NUMBER, pl.lit(0, pl.Int64).alias(_LIVE))
        both = pl.concat([changes, asked]).sort(NUMBER)
        live = both.with_columns(pl.col(_LIVE).cum_sum().over(self.by))
        live = live.join(right.select(NUMBER), on=NUMBER, how="semi")
        made[live[NUMBER].to_numpy() - first] = live[_LIVE].to_numpy()
        return np.concatenate([[0], np.cumsum(made)])

    def _touched(
        self, left: pl.DataFrame, group: pl.DataFrame, right: pl.DataFrame, numbers: Int64s, first: int
    ) -> pl.DataFrame:
        """The left rows of the pairs that are touched, as they are now, with the number of their updates.

        *left* are the last ones that came of each pair, *right* those of each key.
        """
        then = right.select(*self.by, pl.col(NUMBER).alias(OFFSET))
        before = group.join(then, on=self.by).filter(pl.col(NUMBER) < pl.col(OFFSET))
        live = before.group_by(self._pair, maintain_order=True).last().filter(~pl.col(GONE)).sort(NUMBER)
        rank = pl.int_range(pl.len(), dtype=pl.Int64).over(self.by)
        ranked = live.with_columns(pl.lit(_at(numbers, live[OFFSET], first)).alias(OFFSET) + rank)
        own = left.with_columns(pl.lit(_at(numbers, left[NUMBER], first)).alias(OFFSET))
        both = pl.concat([own, ranked.select(own.columns)]).sort(OFFSET)
        return both.unique(self._pair, keep="last", maintain_order=True)

    def _updates(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Updates of the pairs of *left* rows, with the numbers in their ``_offset``, with *right* ones."""
        theirs = (*self.by, *self.shape.right_kept)
        there = right.filter(~pl.col(GONE)).select(*theirs, pl.lit(True).alias(_LIVE))
        now = left.join(there, on=self.by, how="left", maintain_order="left")
        stays = ~pl.col(GONE) if self.outer else ~pl.col(GONE) & pl.col(_LIVE).is_not_null()
        return now.select(*self.columns, *hidden(pl.col(OFFSET), upserts(stays)))


def _at(numbers: Int64s, rows: pl.Series, first: int) -> pl.Series:
    """Of *rows* of the log, of which *first* is the first of this call, the first number of each."""
    return pl.Series(numbers[rows.to_numpy() - first], dtype=pl.Int64)


@dataclass(frozen=True)
class NewestPair(TopOverTable):
    """Of the pairs of each left key, which several partitions tell of, that of the greatest version."""

    @classmethod
    def of_pairs(cls, join: ForeignJoin) -> NewestPair:
        """Of what *join* gives, whose left rows come through :class:`~streamcore.tables.moves.Moves`."""
        return cls(join.of, join.key, join.columns, (Order(VERSION, True),), 1, None)

    @property
    def label(self) -> str:
        """By which key."""
        return f"pairs by {', '.join(self.group)}"

    @property
    def columns(self) -> pl.Schema:
        """The pairs', without the version."""
        return pl.Schema({name: dtype for name, dtype in self.inputs.items() if name != VERSION})
