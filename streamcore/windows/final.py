"""Windows that come out when they are over, and again whenever a late row changes them: a table.

Numbers are counted along the log, one record a call: which windows are over when a row comes depends on
the watermark before it, and that is the same for all who read the same log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamcore.batch import OP_UPDATE_AFTER
from streamcore.event_time import BEGINNING
from streamcore.state.emission import numbered
from streamcore.state.operator import Applied, Runs, State
from streamcore.state.runs import HASH, added, found, merged_by
from streamcore.state.sessions import LAST, NUMBER, START
from streamcore.windows.table import WindowTable


@dataclass(frozen=True)
class FinalWindowTable(WindowTable):
    """A :class:`WindowTable` whose windows have no row before the watermark has passed their end."""

    orderly: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        by = f" by {', '.join(self.by)}" if self.by else ""
        return f"{self.kind.label}{by}, updated by late rows"

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the windows that this closes, and those that are over and that a late row changes."""
        (runs,), before = state.kept, state.watermark
        watermark = max(before, watermark)
        pieces = self._pieces(self.whole(rows), 0)
        given = pieces.height
        if given and before > BEGINNING:
            pieces = pieces.filter(pl.col(LAST) >= before - self.allowed)
        runs = added(runs, pieces, lambda frame: merged_by(frame, self._fewer))
        parts = [*self._closing(runs, before, watermark), *self._touched(runs, pieces, before)]
        emission = self._numbered(pl.concat(parts), state.emitted) if parts else self.nothing_out
        after = State((self._kept(runs, watermark),), watermark, state.emitted + emission.height)
        return Applied(after, emission, given - pieces.height)

    def _closing(self, runs: Runs, before: int, watermark: int) -> list[pl.DataFrame]:
        """The pieces of the windows that end between two watermarks."""
        if watermark == before:
            return []
        closing = (pl.col(LAST) >= before) & (pl.col(LAST) < watermark)
        return [part for run in runs if (part := run.filter(closing)).height]

    def _touched(self, runs: Runs, pieces: pl.DataFrame, before: int) -> list[pl.DataFrame]:
        """All pieces of the windows that were over and that one of *pieces*, already in *runs*, is of."""
        late = pieces.filter(pl.col(LAST) < before) if before > BEGINNING else pieces.clear()
        if not late.height:
            return []
        windows = late.select(self._window)
        parts = found(runs, late[HASH].to_numpy())
        return [part.join(windows, on=self._window, how="semi", nulls_equal=True) for part in parts]

    def _numbered(self, pieces: pl.DataFrame, number: int) -> pl.DataFrame:
        windows = self._merged(pieces).sort(LAST, START, *self.by)
        return numbered(windows, number, OP_UPDATE_AFTER).drop(NUMBER, HASH)
