"""A sample of rows, the same for any cut: those whose positions have the smallest hashes.

As good as drawn at random, and merged by keeping the smallest again (bottom-k sampling; Cohen and Kaplan,
Summarizing data using bottom-k sketches, PODC 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from streamcore.aggregates.hashing import murmur64
from streamcore.batch import OFFSET, SUB

MOST = 2_000
"""Rows that are kept."""
HASH = OFFSET
"""The hash stands where the position was: a name that no column of data has."""


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """``rows`` in the order of their hashes, which are in the column :data:`HASH`."""

    rows: pl.DataFrame

    @classmethod
    def of(cls, frame: pl.DataFrame, hidden: pl.DataFrame, partition: int) -> RowSample:
        """From rows of source *partition*; *hidden* has their positions."""
        places = hidden[OFFSET].to_numpy().astype(np.uint64)
        hashes = murmur64(places ^ (hidden[SUB].to_numpy().astype(np.uint64) << np.uint64(40)), partition + 1)
        if len(hashes) > MOST:
            best = np.sort(np.argpartition(hashes, MOST)[:MOST])
            frame, hashes = frame[best], hashes[best]
        return cls(_smallest(frame.with_columns(pl.Series(HASH, hashes))))

    def merge(self, other: RowSample) -> RowSample:
        """Both together."""
        return RowSample(_smallest(pl.concat([self.rows, other.rows])))


def _smallest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(HASH).head(MOST)
