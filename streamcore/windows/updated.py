"""What tables of windows have in common, however their windows are found."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.event_time import microseconds
from streamcore.state.base import with_time
from streamcore.state.operator import BEHIND, UPSTREAM, Delta
from streamcore.state.order import timeless
from streamcore.windows.assigners import WindowKind
from streamcore.windows.operator import WINDOW_START, columns_of


class UpdatedWindows:
    """A part of an operator: windows of *kind* by the columns *by*, whose rows are updates."""

    kind: WindowKind
    by: tuple[str, ...]
    aggregation: Aggregation
    time: str
    inputs: pl.Schema
    allowed: int

    if TYPE_CHECKING:

        @property
        def no_rows(self) -> pl.DataFrame: ...

    @property
    def label(self) -> str:
        """The kind of windows and their keys."""
        return f"table of {self._windows_by}"

    @property
    def _windows_by(self) -> str:
        by = f" by {', '.join(self.by)}" if self.by else ""
        return f"{self.kind.label}{by}"

    @property
    def key(self) -> tuple[str, ...]:
        """The keys and the window."""
        return (*self.by, WINDOW_START)

    @property
    def columns(self) -> pl.Schema:
        """The columns of the updates."""
        return columns_of(self.by, self.inputs, self.time, self.aggregation)

    @cached_property
    def _logged(self) -> list[str]:
        return [name for name in self.no_rows.columns if name not in (UPSTREAM, BEHIND)]

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """The needed columns; rows without a time are rejects."""
        none = microseconds(frame[self.time]).is_null()
        frame, rejects = with_time(frame, none, stage, timeless(self.time))
        if self.allowed:
            frame = frame.filter(pl.col(BEHIND) <= self.allowed)
        return Delta(frame.select(self._logged), rejects)
