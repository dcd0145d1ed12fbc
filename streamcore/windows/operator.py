"""Windowed aggregation as pure functions of frames and state.

:meth:`WindowOperator.prepare` turns a batch without its late rows into a :class:`Delta`: rows with the
columns that the aggregates need. :meth:`WindowOperator.apply` adds such rows to the state and gives the
windows that are closed by it. The same rows and watermarks, applied in the same order to an empty state,
give the same state and the same emissions (:mod:`streamcore.state.operator`).

What comes out is a stream of its own. Its rows are numbered from 0, and number *n* is the same row
however the input was cut: windows leave by their end, then by key. A window that closes earlier has
an earlier end, so a batch that closes many gives the order that many small batches would have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN
from streamcore.event_time import BEGINNING, as_event_time, microseconds, shown_type
from streamcore.state.base import BaseOperator, only, types_of, with_time
from streamcore.state.emission import numbered
from streamcore.state.operator import UPSTREAM, Applied, Delta, Runs, State
from streamcore.state.order import asked_for, ordered, timeless
from streamcore.state.runs import HASH, added, as_run, compacted, folded, merged_by, rebuilt, taken
from streamcore.state.sessions import LAST, START
from streamcore.windows.assigners import WindowKind

WINDOW_START, WINDOW_END = "window_start", "window_end"
"""Columns of every emission."""


@dataclass(frozen=True)
class WindowOperator(BaseOperator):
    """Aggregates by the columns *by* and the windows of *kind*.

    *time* is the column of the event time, *inputs* are the user columns of the rows that come in. With
    *of_windows* the time is a window's end, and the row belongs to the instant before it.
    """

    kind: WindowKind
    by: tuple[str, ...]
    aggregation: Aggregation
    time: str
    inputs: pl.Schema
    of_windows: bool = False

    timed: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        return f"{self.kind.label} by {', '.join(self.by)}" if self.by else self.kind.label

    @property
    def columns(self) -> pl.Schema:
        """The columns of the emissions."""
        return columns_of(self.by, self.inputs, self.time, self.aggregation)

    @property
    def definition(self) -> str:
        """What it computes, as text: the same for the same results, in any process."""
        told = (
            self.kind,
            self.by,
            dict(self.aggregation.texts),
            self.time,
            self.of_windows,
            *(["ordered"] if self.aggregation.ordered else []),
        )
        return repr((*told, types_of(self.inputs)))

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """What *frame* (user and hidden columns, in the stream's order, none late) adds.

        *stage* names this operator in rejects.
        """
        frame, rejects = with_time(frame, self._times(frame).is_null(), stage, timeless(self.time))
        return Delta(frame.select(self._logged), rejects)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """The state with *rows* of deltas and behind *watermark* (``time.END`` closes everything).

        Also the windows that this closes, numbered, for :meth:`finish`; and how many pieces were left out
        since their windows were closed already, as rows of an idle partition may be.
        """
        pieces = self._pieces(rows)
        given = pieces.height
        if given and state.watermark > BEGINNING:
            pieces = pieces.filter(pl.col(LAST) >= state.watermark - self.kind.patience)
        runs, watermark = self._with(state.kept[0], pieces), max(state.watermark, watermark)
        runs, closed = self._close(runs, watermark)
        after = State((runs,), watermark, state.emitted + closed.height)
        return Applied(after, self._numbered(closed, state.emitted), given - pieces.height)

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, self.time, *self.aggregation.inputs}
        return pl.DataFrame(schema={**only(self.inputs, needed), **asked_for(self.aggregation.ordered)})

    @cached_property
    def _logged(self) -> list[str]:
        return [name for name in self.no_rows.columns if name != UPSTREAM]

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No windows, with the columns that :meth:`finish` takes."""
        return self._numbered(self._no_pieces, 0)

    @cached_property
    def _no_pieces(self) -> pl.DataFrame:
        return self._pieces([])

    def shown(self, state: State) -> pl.DataFrame:
        """The windows that are open, with their aggregates so far."""
        (runs,) = state.kept
        pieces = self._resolved(pl.concat(runs)).drop(HASH) if runs else self._no_pieces
        return self.finish(self._numbered(pieces, 0)).drop(HIDDEN)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self._together)

    # ------------------------------------------------------------ pieces

    def _times(self, frame: pl.DataFrame) -> pl.Series:
        times = microseconds(frame[self.time])
        return times - 1 if self.of_windows else times

    def _pieces(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        frame = self.whole(rows)
        times = self._times(frame)
        placed = ordered(frame, times)
        return self.kind.pieces(placed, times.to_numpy(), self.by, self._first, self._merge)

    def _first(self, rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        return rows.group_by(keys, maintain_order=True).agg(self.aggregation.partial())

    def _merge(self, pieces: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        return pieces.group_by(keys, maintain_order=True).agg(self.aggregation.merge())

    def _resolved(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return self.kind.resolve(pieces, [*self.by, HASH], self._merge).select(pieces.columns)

    def _with(self, runs: Runs, pieces: pl.DataFrame) -> Runs:
        return added(runs, as_run(pieces, self._together), self._merged)

    @property
    def _together(self) -> list[str]:
        """What pieces must have in common to be merged."""
        return [*self.by] if self.kind.merges else [*self.by, START]

    def _merged(self, pieces: pl.DataFrame) -> pl.DataFrame:
        return merged_by(pieces, lambda run: folded(run, self._resolved))

    def _close(self, runs: Runs, watermark: int) -> tuple[Runs, pl.DataFrame]:
        """What stays open, and the windows that *watermark* closes."""
        done = pl.col(LAST) < watermark - self.kind.patience if watermark > BEGINNING else pl.lit(False)
        if not any(run.select(done.any()).item() for run in runs):
            return runs, self._no_pieces
        if self.kind.merges:
            runs = compacted(runs, self._merged)
        runs, closed = taken(runs, done)
        return runs, self._resolved(pl.concat(closed)).drop(HASH) if closed else self._no_pieces

    # ------------------------------------------------------------ emissions

    def finish(self, closed: pl.DataFrame) -> pl.DataFrame:
        """The emission's columns of *closed* windows; PolarsError for a value that its type can't hold."""
        dtype = self.inputs[self.time]
        return closed.select(
            *self.by,
            as_event_time(pl.col(START), dtype).alias(WINDOW_START),
            as_event_time(pl.col(LAST), dtype).alias(WINDOW_END),
            *self.aggregation.results(),
            *HIDDEN,
        )

    def _numbered(self, closed: pl.DataFrame, number: int) -> pl.DataFrame:
        ordered = closed.with_columns(self.kind.end().alias(LAST)).sort(LAST, START, *self.by)
        return numbered(ordered, number)


def columns_of(by: Sequence[str], inputs: pl.Schema, time: str, aggregation: Aggregation) -> pl.Schema:
    """The columns of windows *by* some columns of *inputs*, whose event time is *time*."""
    shown, keys = shown_type(inputs[time]), {name: inputs[name] for name in by}
    return pl.Schema({**keys, WINDOW_START: shown, WINDOW_END: shown, **aggregation.result_types})
