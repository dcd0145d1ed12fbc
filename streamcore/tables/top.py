"""The best rows of each group, kept up to date: a table with a row for each rank of each group.

Where rows only come, the row of a rank changes when a better one comes: the row at rank *r* (from 1) is
there since the newest of the best *r* rows came, row *i* of the log. That update has the number
``i * n + r - 1``, which does not depend on how calls are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP, OP_UPDATE_AFTER, SUB, Rejects
from streamcore.state.operator import Applied, Delta, Runs, State
from streamcore.state.runs import HASH, added, as_run, found, hashes_of
from streamcore.tables.group import NUMBER

_RANK = "_rank"


@dataclass(frozen=True)
class TopOperator:
    """The best *n* rows by the columns *by*, over rows that only come.

    *order*: columns, the first one first, each with whether larger values are better. Nulls are worst; of
    equal rows the one that came first is better. *rank* is the column of the rank; without it there is
    one row a group.
    """

    by: tuple[str, ...]
    order: tuple[tuple[str, bool], ...]
    n: int
    rank: str | None
    inputs: pl.Schema

    timed: ClassVar[bool] = False
    lag: ClassVar[int] = 0
    empty: ClassVar[State] = State(((),))

    @property
    def label(self) -> str:
        """Keys and order, for people."""
        order = ", ".join(f"{name} desc" if down else name for name, down in self.order)
        return f"top {self.n} by {', '.join(self.by)} ({order})"

    @property
    def key(self) -> tuple[str, ...]:
        """The group, and the rank where there are several."""
        return self.by if self.rank is None else (*self.by, self.rank)

    @property
    def columns(self) -> pl.Schema:
        """All columns of the rows, and the rank."""
        return self.inputs if self.rank is None else pl.Schema({**self.inputs, self.rank: pl.Int64()})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        types = {name: str(dtype) for name, dtype in self.inputs.items()}
        return repr(("top", self.by, self.order, self.n, self.rank, types))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with all columns."""
        return pl.DataFrame(schema={**self.inputs, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        return self._updates(self._numbered(self.no_rows, 0), 0)

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """All rows."""
        return Delta(frame.select(self.no_rows.columns), Rejects())

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the updates are of the ranks that have another row than before."""
        (runs,), arrived = state.kept, state.arrived
        watermark = max(state.watermark, watermark)
        frame = pl.concat(rows) if rows else self.no_rows
        if not frame.height:
            return Applied(State((runs,), watermark, state.emitted, arrived), self.nothing_out)
        best = self._best(self._numbered(frame, arrived))
        known = [part.drop(HASH) for part in found(runs, hashes_of(best, self.by))]
        updates = self._updates(self._best(pl.concat([*known, best])), arrived)
        runs = added(runs, as_run(best, self.by), self._merged)
        arrived += frame.height
        return Applied(State((runs,), watermark, arrived * self.n, arrived), updates)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The columns of the rows, and their rank."""
        ranks = [] if self.rank is None else [pl.col(_RANK).alias(self.rank)]
        return emission.select(*self.inputs, *ranks, *HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return tuple(tuple(as_run(run.drop(HASH, strict=False), self.by) for run in runs) for runs in kept)

    # ------------------------------------------------------------ pieces

    def _numbered(self, frame: pl.DataFrame, arrived: int) -> pl.DataFrame:
        number = pl.Series(NUMBER, np.arange(arrived, arrived + frame.height), pl.Int64)
        return frame.drop(OFFSET).with_columns(number)

    def _best(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The best rows of each group, better ones first."""
        names, down = [name for name, _ in self.order], [down for _, down in self.order]
        ordered = rows.sort([*names, NUMBER], descending=[*down, False], nulls_last=True)
        best = ordered.group_by(self.by, maintain_order=True).head(self.n)
        return best.select(rows.columns)

    def _merged(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return as_run(self._best(pieces.drop(HASH)), self.by)

    def _updates(self, best: pl.DataFrame, first: int) -> pl.DataFrame:
        """The ranks that row *first* or a later one changed; *best* rows stand better first."""
        rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(self.by).alias(_RANK)
        since = pl.col(NUMBER).cum_max().over(self.by)
        ranked = best.with_columns(rank, since).filter(pl.col(NUMBER) >= first)
        return (
            ranked.with_columns(
                (pl.col(NUMBER) * self.n + pl.col(_RANK) - 1).alias(OFFSET),
                pl.lit(0, pl.UInt32).alias(SUB),
                pl.lit(OP_UPDATE_AFTER, pl.UInt8).alias(OP),
            )
            .drop(NUMBER)
            .sort(OFFSET)
        )
