"""A split that ends after so many records, for ``--limit`` and dry runs."""

from __future__ import annotations

from dataclasses import dataclass

from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import SplitReader
from streamcore.runtime.chunk_part import ChunkPart
from streamcore.wrapping import SplitWrapper


@dataclass(frozen=True)
class LimitedSplit(SplitWrapper):
    """The first *limit* records of *split*. It is always read from its start, and needs no bookmarks."""

    limit: int
    bookmark = b""

    @property
    def name(self) -> str:
        return f"{self.split.name} (first {self.limit:,})"

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        """A reader that counts from the start, so that a resume ends at the same record."""
        return _LimitedReader(self.split.open(source, 0, self.split.bookmark), self.limit, position)


class _LimitedReader:
    def __init__(self, reader: SplitReader, left: int, position: int) -> None:
        self._reader, self._left, self._position = reader, left, position

    def read(self, max_bytes: int) -> Chunk | None:
        while self._left > 0:
            chunk = self._reader.read(max_bytes)
            if chunk is None:
                return None
            count = len(chunk)
            if count > self._left:
                chunk = ChunkPart(chunk, chunk.first, int(chunk.offsets()[self._left]))
            self._left -= len(chunk)
            if chunk.end > self._position:
                return chunk
        return None

    def close(self) -> None:
        self._reader.close()
