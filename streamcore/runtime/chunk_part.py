"""A part of a chunk that behaves like a chunk: for limits, and for rows that leave at their time."""

from __future__ import annotations

import polars as pl

from streamcore.batch import OFFSET, Chunk, Int64s, Original, Rejects


class ChunkPart(Chunk):
    """The records and rejects of *whole* at positions in ``[start, end)``; it keeps *whole* in memory."""

    __slots__ = ("_at", "_until", "_whole")

    def __init__(self, whole: Chunk, start: int, end: int) -> None:
        at, until = (int(place) for place in whole.offsets().searchsorted([start, end]))
        self._whole, self._at, self._until = whole, at, until
        refused = whole.rejects.frame
        if refused.height:
            refused = refused.filter(pl.col(OFFSET).is_between(start, end, closed="left"))
        super().__init__(
            whole.source,
            start,
            end,
            nbytes=whole.nbytes * (until - at) // max(1, len(whole)),
            frame=None if whole.frame is None else whole.frame[at:until],
            rejects=Rejects(refused),
        )

    def __len__(self) -> int:
        return self._until - self._at

    def offsets(self) -> Int64s:
        return self._whole.offsets()[self._at : self._until]

    def values(self) -> list[bytes | None]:
        return self._whole.values()[self._at : self._until]

    def keys(self) -> list[bytes | None]:
        return self._whole.keys()[self._at : self._until]

    def timestamps(self) -> Int64s | None:
        stamps = self._whole.timestamps()
        return None if stamps is None else stamps[self._at : self._until]

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        return self._whole.headers(offset)

    def original(self, offset: int) -> Original:
        return self._whole.original(offset)
