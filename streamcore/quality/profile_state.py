"""What a profile keeps of a dataset while it is read: a state of bounded size that merges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, hide, user_columns
from streamcore.quality.column_state import ColumnState
from streamcore.quality.row_sample import RowSample


@dataclass(frozen=True, slots=True, eq=False)
class ProfileState:
    """``columns`` by name; ``sample`` has rows without the ``secret`` columns."""

    rows: int
    types: pl.Schema
    columns: Mapping[str, ColumnState]
    sample: RowSample
    secret: frozenset[str] = frozenset()

    @classmethod
    def empty(cls, columns: pl.Schema, secret: Collection[str] = ()) -> ProfileState:
        """The state of no rows."""
        return cls.of(hide(pl.DataFrame(schema=columns), np.empty(0, np.int64)), 0, secret)

    @classmethod
    def of(cls, frame: pl.DataFrame, partition: int = 0, secret: Collection[str] = ()) -> ProfileState:
        """The state of *frame*, which has the hidden columns; its rows are of source *partition*."""
        rows, hidden = user_columns(frame), frame.select(HIDDEN)
        unseen = (name for name, dtype in rows.schema.items() if name in secret or dtype == pl.Object)
        shown = rows.drop(*unseen)
        return cls(
            rows.height,
            rows.schema,
            {name: ColumnState.of(rows[name]) for name in rows.columns},
            RowSample.of(shown, hidden, partition),
            frozenset(secret),
        )

    def merge(self, other: ProfileState) -> ProfileState:
        """Both together: of pieces of one dataset, with the same columns."""
        return ProfileState(
            self.rows + other.rows,
            self.types,
            {name: state.merge(other.columns[name]) for name, state in self.columns.items()},
            self.sample.merge(other.sample),
            self.secret,
        )
