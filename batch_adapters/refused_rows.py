"""Rows of a columnar source of which some hold what their columns can't: those are refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import OFFSET, SUB, FrameChunk, Int64s, Original, PartitionId, Rejects, arrow_bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Which rows of a frame are refused, shape (rows,), and why. ``raw``: those rows alone, as they came."""

    rows: npt.NDArray[np.bool_]
    raw: pl.DataFrame
    code: str
    message: str


class PartlyRefusedChunk(FrameChunk):
    """The rows of *frame* at *offsets*, without those that are *refused*."""

    __slots__ = ("_raw", "_refused_at")

    def __init__(
        self,
        source: PartitionId,
        offsets: Int64s,
        frame: pl.DataFrame,
        refused: Refused,
        *,
        first: int,
        end: int,
    ) -> None:
        bad = refused.rows
        self._refused_at, self._raw = offsets[bad], refused.raw
        rows = pl.DataFrame({OFFSET: offsets[bad], SUB: np.zeros(len(self._refused_at), np.uint32)})
        rejects = Rejects.of(rows, "read", refused.code, refused.message)
        super().__init__(source, offsets[~bad], frame.filter(~bad), first=first, end=end, rejects=rejects)

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`; a refused row as Arrow, as it came."""
        at = int(np.searchsorted(self._refused_at, offset))
        if at < len(self._refused_at) and self._refused_at[at] == offset:
            return Original(arrow_bytes(self._raw[at]), "arrow")
        return super().original(offset)
