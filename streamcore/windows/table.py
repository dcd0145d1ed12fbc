"""Windows as a table: each has a row from its first row on, kept up to date until nothing more can come.

Row *n* of the log updates each of the *w* windows that hold it, with numbers from ``n * w`` on: the
window's place among those aligned to 1970 says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET, OP_UPDATE_AFTER
from streamcore.event_time import BEGINNING, as_event_time, microseconds
from streamcore.state.base import BaseOperator, only, types_of
from streamcore.state.emission import counted_from, hidden
from streamcore.state.operator import BEHIND, Applied, Runs, State
from streamcore.state.order import asked_for, ordered
from streamcore.state.runs import HASH, added, as_run, folded, forgotten, found, merged_by, rebuilt
from streamcore.state.sessions import LAST, NUMBER, START
from streamcore.windows.assigners import Aligned
from streamcore.windows.operator import WINDOW_END, WINDOW_START
from streamcore.windows.updated import UpdatedWindows


@dataclass(frozen=True)
class WindowTable(UpdatedWindows, BaseOperator):
    """Aggregates by the columns *by* and aligned windows, updated with each row; *time* as of a window.

    With *allowed*, rows update their window that are late by no more than so many microseconds. How late a
    row is was judged where it was read, so in any cut the same rows count. A window is forgotten when the
    watermark has passed its end by that time.
    """

    kind: Aligned
    by: tuple[str, ...]
    aggregation: Aggregation
    time: str
    inputs: pl.Schema
    of_windows: bool = False
    allowed: int = 0

    timed: ClassVar[bool] = True

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        told = (self.kind, self.by, dict(self.aggregation.texts), self.time, self.of_windows, self.allowed)
        ordered = ["ordered"] if self.aggregation.ordered else []
        return repr((type(self).__name__, told, types_of(self.inputs), *ordered))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, self.time, *self.aggregation.inputs}
        late = {BEHIND: pl.Int64()} if self.allowed else {}
        return pl.DataFrame(
            schema={**only(self.inputs, needed), **late, **asked_for(self.aggregation.ordered)}
        )

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates, with the columns that :meth:`finish` takes."""
        return self._updates([self._pieces(self.no_rows, 0)], 0)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows*; the updates are of the windows that they touch."""
        (runs,), arrived, before = state.kept, state.arrived, state.watermark
        watermark = max(before, watermark)
        frame = self.whole(rows)
        pieces = self._pieces(frame, arrived)
        given = pieces.height
        if given and before > BEGINNING:
            pieces = pieces.filter(pl.col(LAST) >= before - self.allowed)
        updates = self.nothing_out
        if pieces.height:
            updates = self._updates([*found(runs, pieces[HASH].to_numpy()), pieces], arrived)
        runs = self._kept(added(runs, pieces, lambda frame: merged_by(frame, self._fewer)), watermark)
        arrived += frame.height
        after = State((runs,), watermark, arrived * self._windows, arrived)
        return Applied(after, updates, given - pieces.height)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The columns of the updates; PolarsError for a value that its type can't hold."""
        dtype = self.inputs[self.time]
        return emission.select(
            *self.by,
            as_event_time(pl.col(START), dtype).alias(WINDOW_START),
            as_event_time(pl.col(LAST) + 1, dtype).alias(WINDOW_END),
            *self.aggregation.results(),
            *HIDDEN,
        )

    def shown(self, state: State) -> pl.DataFrame:
        """The windows that are open, with their aggregates so far."""
        return self.finish(self._updates([*state.kept[0]] or [self._pieces(self.no_rows, 0)], 0)).drop(HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self._window)

    # ------------------------------------------------------------ pieces

    @property
    def _window(self) -> list[str]:
        return [*self.by, START]

    @property
    def _windows(self) -> int:
        """How many windows may hold a row."""
        return -(-self.kind.size // self.kind.every)

    def _pieces(self, frame: pl.DataFrame, first: int) -> pl.DataFrame:
        """A run with a piece for each window of *frame*, whose rows are numbered from *first* on."""
        times = microseconds(frame[self.time]) - int(self.of_windows)
        numbers = counted_from(first, frame.height).alias(NUMBER)
        rows = ordered(frame, times).with_columns(numbers)
        made = self.kind.pieces(rows, times.to_numpy(), self.by, self._first, self._merge)
        columns = [*self.by, START, LAST, *self.aggregation.partials, NUMBER]
        return as_run(made.select(columns), self._window)

    def _first(self, rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        grouped = rows.group_by(keys, maintain_order=True)
        return grouped.agg(*self.aggregation.partial(), pl.col(NUMBER).max())

    def _merge(self, pieces: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        grouped = pieces.group_by(keys, maintain_order=True)
        return grouped.agg(*self.aggregation.merge(), pl.col(NUMBER).max())

    def _merged(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return self._merge(pieces, [*self._window, LAST, HASH]).select(pieces.columns)

    def _fewer(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return folded(pieces, self._merged)

    def _kept(self, runs: Runs, watermark: int) -> Runs:
        """*runs* without most of the windows that nothing can update any more."""
        return runs if watermark == BEGINNING else forgotten(runs, pl.col(LAST) < watermark - self.allowed)

    def _updates(self, pieces: Sequence[pl.DataFrame], first: int) -> pl.DataFrame:
        """The windows of *pieces* (older first) that a row from number *first* on has touched."""
        merged = self._merged(pl.concat(pieces)) if len(pieces) > 1 else pieces[0]
        touched = merged.filter(pl.col(NUMBER) >= first)
        place = ((pl.col(START) - self.kind.offset) // self.kind.every) % self._windows
        return (
            touched.with_columns(hidden(pl.col(NUMBER) * self._windows + place, OP_UPDATE_AFTER))
            .drop(NUMBER, HASH)
            .sort(OFFSET)
        )
