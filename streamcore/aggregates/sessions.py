"""Aggregates of sessions: what tables of session windows and of keys that live for a while have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.state.base import only
from streamcore.state.order import asked_for, ordered
from streamcore.state.sessions import NUMBER, SessionTable


@dataclass(frozen=True)
class AggregatedSessions(SessionTable):
    """A table of sessions of which aggregates are kept."""

    aggregation: Aggregation

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        needed = {*self.by, self.time, *self.aggregation.inputs}
        return pl.DataFrame(schema={**only(self.inputs, needed), **asked_for(self.aggregation.ordered)})

    def placed(self, rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
        """*rows*, and their order if an aggregate asks for it."""
        return ordered(rows, times)

    def first(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """Partials of rows."""
        grouped = frame.group_by(keys, maintain_order=True)
        return grouped.agg(*self.aggregation.partial(), pl.col(NUMBER).max())

    def merge(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """Partials of partials."""
        grouped = frame.group_by(keys, maintain_order=True)
        return grouped.agg(*self.aggregation.merge(), pl.col(NUMBER).max())
