"""Batches in pieces, for systems whose transactions are small, or end with the first row that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from streamcore.batch import OFFSET, Batch

PIECE_ROWS = 200
"""Rows of a small piece, about: each refused one costs writing the piece once more."""


def pieces_of(batch: Batch, rows: int = PIECE_ROWS) -> list[Batch]:
    """*batch* in pieces of about so many *rows* that cover it. The rows of one position stay together."""
    offsets = batch.frame[OFFSET].to_numpy()
    starts = np.unique(offsets[rows::rows])
    edges = [batch.range.start, *(int(at) for at in starts if at > batch.range.start), batch.range.end]
    return [batch.cut(start, end) for start, end in pairwise(edges)]


def split_off(batch: Batch, places: Sequence[int]) -> tuple[Batch, pl.DataFrame]:
    """*batch* without the rows at *places*, and those."""
    named = pl.int_range(pl.len()).is_in(list(places))
    return batch.with_frame(batch.frame.filter(~named)), batch.frame.filter(named)
