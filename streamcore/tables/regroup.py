"""Tables over the rows of another table, by group: the latest row of each key counts.

What comes is updates of the table below: a row takes the place of the one with its key, and may move from
one group to another. The latest rows are kept by group, and what a group gives is computed from all of
its rows when one of them changes: any aggregate can be had, and a change costs as much as its group is large.

Row *n* of the log touches the group that it leaves with the number 2n and the one that it enters with
2n + 1. Which groups are touched, and with which numbers, does not depend on how calls are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import DELETES, HIDDEN, OFFSET, OP, OP_DELETE
from streamcore.state.base import BaseOperator, only, types_of
from streamcore.state.emission import hidden, upserts
from streamcore.state.grouping import GONE, without_gone
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, Merge, added, as_run, folded, found, hashes_of, merged_by, rebuilt
from streamcore.tables.group import NUMBER

RESERVED = (HASH, NUMBER, GONE)
"""Names that columns can't have."""


@dataclass(frozen=True)
class OverTable(BaseOperator, ABC):
    """Rows by the columns *group* of a table whose rows are named by the columns *of*."""

    group: tuple[str, ...]
    of: tuple[str, ...]
    inputs: pl.Schema

    empty: ClassVar[State] = State((Runs(), Runs()))
    """Pieces by group, and pieces by key: where each key is. The second only where keys can move."""

    @property
    @abstractmethod
    def label(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""

    @property
    @abstractmethod
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""

    @property
    @abstractmethod
    def columns(self) -> pl.Schema:
        """See :class:`~streamcore.state.operator.Operator`."""

    @property
    @abstractmethod
    def ranks(self) -> int:
        """How many rows a group may have in this table: each change of a group has so many numbers."""

    @property
    @abstractmethod
    def needed(self) -> Collection[str]:
        """The columns that are needed beside those of ``group`` and ``of``."""

    @abstractmethod
    def updates_of(self, rows: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
        """What the groups *touched* are now, with the columns that ``finish`` takes, sorted by number.

        *rows* are theirs, in the order of their last changes. The first number of a group is that in
        *touched*, its column :data:`NUMBER`, times ``ranks``.
        """

    @property
    def by(self) -> tuple[str, ...]:
        """The groups' columns if a key stays in its group; else one partition must see all groups."""
        return () if self._moves else self.group

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.group, *self.of, *self.needed}
        return pl.DataFrame(schema={**only(self.inputs, needed), OP: pl.UInt8, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        return self._updates([self._placed(self.no_rows, 0)], self._touched(self._placed(self.no_rows, 0)))

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* in the places of those with their keys; the updates are of the groups touched."""
        (groups, places), numbers = state.kept, 2 * self.ranks
        watermark = max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State((groups, places), watermark, state.emitted), self.nothing_out)
        changes = self._placed(frame, state.emitted // numbers)
        if self._moves:
            changes = self._with_leaving(changes, places)
            places = self._added_places(places, changes)
        touched = self._touched(changes)
        latest = as_run(self._last(changes, self._row), self.group)
        updates = self._updates([*found(groups, hashes_of(touched, self.group)), latest], touched)
        groups = self._added_groups(groups, latest)
        emitted = state.emitted + numbers * frame.height
        return Applied(State((groups, places), watermark, emitted), updates)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        runs = state.kept[0]
        if not runs:
            return self.finish(self.nothing_out).drop(HIDDEN)
        touched = self._touched(pl.concat(runs))
        there = self._updates(runs, touched).filter(pl.col(OP) != OP_DELETE)
        return self.finish(there).drop(HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.group, self.of)

    # ------------------------------------------------------------ pieces

    @property
    def _row(self) -> list[str]:
        """What names a piece: a key within a group."""
        return list(dict.fromkeys([*self.group, *self.of]))

    @property
    def _moves(self) -> bool:
        return not set(self.group) <= set(self.of)

    def _placed(self, frame: pl.DataFrame, first: int) -> pl.DataFrame:
        """What *frame*, whose rows are numbered from *first* on, puts into groups; deleted rows leave."""
        number = pl.Series(NUMBER, 2 * np.arange(first, first + frame.height) + 1, pl.Int64)
        return frame.with_columns(DELETES.alias(GONE), number).drop(OP, OFFSET)

    def _with_leaving(self, changes: pl.DataFrame, places: Runs) -> pl.DataFrame:
        """*changes*, and before each of them its key leaving the group where it was."""
        known = [run.drop(HASH) for run in found(places, hashes_of(changes, self.of))]
        before = (
            self._last(pl.concat([run.select(changes.columns) for run in known]), self.of) if known else None
        )
        whole = changes if before is None else pl.concat([before, changes])
        was = pl.struct(*self.group).shift(1).over(self.of)
        stood = ~pl.col(GONE).shift(1).over(self.of)
        moved = whole.with_columns(was.alias("_was"), stood.alias("_stood"))
        moved = moved.filter((pl.col(NUMBER) >= changes[NUMBER][0]) & pl.col("_stood"))
        left = moved.with_columns(
            pl.lit(True).alias(GONE),
            pl.col(NUMBER) - 1,
            *(pl.col("_was").struct.field(name).alias(name) for name in self.group),
        )
        # A deletion says which key goes, and its other columns may be of any group: it only leaves.
        stays = changes.filter(~pl.col(GONE))
        return pl.concat([stays, left.select(changes.columns)]).sort(NUMBER)

    def _last(self, pieces: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        return pieces.group_by(keys, maintain_order=True).last().select(pieces.columns)

    def _fewer(self, keys: Sequence[str]) -> Merge:
        return lambda pieces: folded(pieces, lambda some: self._last(some, keys))

    def _touched(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The groups of *changes*, each with the number of its last change."""
        return changes.group_by(self.group, maintain_order=True).agg(pl.col(NUMBER).max())

    def _added_groups(self, groups: Runs, latest: pl.DataFrame) -> Runs:
        return added(groups, latest, lambda f: merged_by(f, self._fewer(self._row)), oldest=without_gone)

    def _added_places(self, places: Runs, changes: pl.DataFrame) -> Runs:
        latest = as_run(self._last(changes, self.of), self.of)
        return added(places, latest, lambda f: merged_by(f, self._fewer(self.of)), oldest=without_gone)

    def _updates(self, pieces: Sequence[pl.DataFrame], touched: pl.DataFrame) -> pl.DataFrame:
        """What the groups *touched* are now, made of *pieces* of them, older first."""
        rows = self._last(pl.concat(pieces) if len(pieces) > 1 else pieces[0], self._row)
        return self.updates_of(rows.filter(~pl.col(GONE)).sort(NUMBER), touched)


@dataclass(frozen=True)
class RegroupOperator(OverTable):
    """Aggregates by the columns *group* over a table."""

    aggregation: Aggregation

    ranks: ClassVar[int] = 1

    @property
    def label(self) -> str:
        """The keys, for people."""
        return f"aggregates by {', '.join(self.group)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The groups' columns."""
        return self.group

    @property
    def columns(self) -> pl.Schema:
        """The keys and the aggregates."""
        keys = {name: self.inputs[name] for name in self.group}
        return pl.Schema({**keys, **self.aggregation.result_types})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        told = (self.group, self.of, dict(self.aggregation.texts), types_of(self.inputs))
        return repr(("regroup", *told))

    @property
    def needed(self) -> Collection[str]:
        """Those of the aggregates."""
        return self.aggregation.inputs

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """Keys and results of *emission*; PolarsError for a value that its type can't hold."""
        return emission.select(*self.group, *self.aggregation.results(), *HIDDEN)

    def updates_of(self, rows: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
        """The groups' aggregates; a group without rows is deleted."""
        grouped = rows.group_by(self.group, maintain_order=True).agg(
            *self.aggregation.partial(), pl.len().alias("_rows")
        )
        now = touched.join(grouped, on=list(self.group), how="left", nulls_equal=True, maintain_order="left")
        return (
            now.sort(NUMBER)
            .with_columns(hidden(pl.col(NUMBER), upserts(pl.col("_rows").is_not_null())))
            .drop("_rows", NUMBER)
        )
