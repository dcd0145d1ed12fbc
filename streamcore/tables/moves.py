"""A table by its key as one by more columns: a row that moves to other values of them leaves where it was.

Such a table can be sorted to partitions by the columns that were added, of which each must be told what it
has no longer. Only who has all updates of a key knows where its row was, so they come through a log by the
key first, as retractions do (:mod:`streamcore.tables.retractions`).

Row *n* of the log deletes with the number 2n where its key's row was, if that is elsewhere now, and puts the
row with 2n + 1, which is its **version**. Every row does so, whichever come with it in a call. Of the rows
that a key has behind it, in whatever order the partitions told of them, that with the greatest version is
its newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.batch import DELETES, OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.state.base import BaseOperator, types_of
from streamcore.state.emission import hidden
from streamcore.state.grouping import GONE, PLACE, groups_of, together, without_gone, youngest
from streamcore.state.operator import Applied, State
from streamcore.state.runs import HASH, added, as_run, found, hashes_of, merged_by
from streamcore.tables.group import NUMBER

VERSION = "_version"
"""Column that the operator adds: grows along the rows of a key, Int64."""
OLD = "_old "
"""Before the names of columns as they were."""
RESERVED = (HASH, NUMBER, GONE, PLACE, VERSION)
"""Names that columns can't have."""


@dataclass(frozen=True)
class Moves(BaseOperator):
    """The table with *inputs* whose rows are named by *by*, as one by *by* and *to*.

    Its pieces say where the row of each key is.
    """

    by: tuple[str, ...]
    to: tuple[str, ...]
    inputs: pl.Schema

    @property
    def label(self) -> str:
        """Where its rows go."""
        return f"moves to {', '.join(self.to)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that name a row here."""
        return tuple(dict.fromkeys([*self.by, *self.to]))

    @property
    def columns(self) -> pl.Schema:
        """The table's, and the version; a row that leaves has those of the key only."""
        return pl.Schema({**self.inputs, VERSION: pl.Int64()})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("moves", self.by, self.to, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No updates."""
        return pl.DataFrame(schema={**self.inputs, OP: pl.UInt8, OFFSET: pl.Int64})

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Put *rows* where they go, and delete them where they were."""
        (runs,), watermark = state.kept, max(state.watermark, watermark)
        frame = self.whole(rows)
        if not frame.height:
            return Applied(State((runs,), watermark, state.emitted), self.nothing_out)
        numbers = pl.Series(NUMBER, state.emitted + 2 * np.arange(frame.height), pl.Int64)
        came = frame.select(*self.inputs, DELETES.alias(GONE), numbers)
        known = [part.select(*self.key, GONE) for part in found(runs, hashes_of(came, self.by))]
        emission = self._moved(came, known)
        newest = came.select(*self.key, GONE).unique(self.by, keep="last", maintain_order=True)
        runs = added(runs, as_run(newest, self.by), lambda f: merged_by(f, self._youngest), without_gone)
        return Applied(State((runs,), watermark, state.emitted + 2 * frame.height), emission)

    def shown(self, state: State) -> pl.DataFrame:
        """Where the rows are."""
        (runs,) = state.kept
        if not runs:
            return self.no_rows.select(*self.key)
        return merged_by(pl.concat(runs), self._youngest).filter(~pl.col(GONE)).select(*self.key)

    def _youngest(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return youngest(pieces, self.by)

    def _moved(self, came: pl.DataFrame, known: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """What *came* deletes and puts; *known* are pieces of its keys, older ones first."""
        places = pl.concat([*known, came.select(*self.key, GONE)], rechunk=True)
        first = places.height - came.height
        before = together(groups_of(places, self.by)).before[first:]
        stood = pl.Series((before >= 0) & ~places[GONE].to_numpy()[before])
        was = places.select(pl.col(name).alias(OLD + name) for name in self.to)[before]
        both = pl.concat([came, was], how="horizontal")
        elsewhere = pl.any_horizontal(pl.col(name).ne_missing(pl.col(OLD + name)) for name in self.to)
        leaving = both.filter(pl.lit(stood) & (pl.col(GONE) | elsewhere))
        moved = {name: pl.col(OLD + name).alias(name) for name in self.to}
        kept = {name: pl.col(name) for name in self.by} | moved
        left = leaving.select(
            *(kept.get(name, pl.lit(None, dtype).alias(name)) for name, dtype in self.inputs.items()),
            pl.lit(None, pl.Int64).alias(VERSION),
            *hidden(pl.col(NUMBER), OP_DELETE),
        )
        put = came.filter(~pl.col(GONE)).select(
            *self.inputs,
            (pl.col(NUMBER) + 1).alias(VERSION),
            *hidden(pl.col(NUMBER) + 1, OP_UPDATE_AFTER),
        )
        return pl.concat([left, put]).sort(OFFSET)
