"""Documents of a system that has no columns, as JSON texts: the stream's schema says what is read of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from batch_adapters.key_ranges import Key
from streamcore.batch import OFFSET, SUB, Int64s, Original, PartitionId, RecordChunk, Rejects

RECORD_BYTES = 60
"""What a record takes beside its text, about."""


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """Why a document can't be JSON, and its bytes as they came."""

    code: str
    message: str
    original: bytes


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of documents: their ``texts``, and their ids, of which ``key_of`` makes keys.

    Those at the places of ``refused`` are dead letters; their texts are empty.
    """

    texts: Sequence[bytes]
    ids: Sequence[object]
    key_of: Callable[[object], Key]
    refused: Mapping[int, RefusedDocument] = field(default_factory=dict)

    def last_key(self) -> Key:
        """See :class:`batch_adapters.key_ranges.Page`."""
        return self.key_of(self.ids[-1])

    def repeated_key(self, behind: Key | None) -> Key | None:
        """None: the systems of documents keep their keys unique themselves."""
        return None

    def chunk(self, source: PartitionId, first: int) -> DocumentsChunk:
        """See :class:`batch_adapters.key_ranges.Page`."""
        return DocumentsChunk(source, first, self.texts, self.refused)

    def cut(self, max_bytes: int) -> Iterator[DocumentPage]:
        """The same in pieces of about *max_bytes*, at least one document each."""
        ends = np.cumsum(np.fromiter(map(len, self.texts), np.int64) + RECORD_BYTES)
        start = 0
        while start < len(ends):
            behind = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, behind + max_bytes, "right")))
            refused = {place - start: why for place, why in self.refused.items() if start <= place < end}
            yield DocumentPage(self.texts[start:end], self.ids[start:end], self.key_of, refused)
            start = end


class DocumentsChunk(RecordChunk):
    """Documents at the positions *first* and on, without those that are *refused*."""

    __slots__ = ("_refused",)

    def __init__(
        self,
        source: PartitionId,
        first: int,
        texts: Sequence[bytes],
        refused: Mapping[int, RefusedDocument],
    ) -> None:
        end = first + len(texts)
        good = (
            [place for place in range(len(texts)) if place not in refused] if refused else range(len(texts))
        )
        offsets = np.fromiter(good, np.int64) + first
        values = [texts[place] for place in good] if refused else texts
        super().__init__(source, offsets, values, first=first, end=end)
        self._refused = {first + place: why for place, why in refused.items()}
        self.rejects = rejects_of(self._refused)

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`; a refused document as it came."""
        why = self._refused.get(offset)
        return super().original(offset) if why is None else Original(why.original, "bytes")


def rejects_of(refused: Mapping[int, RefusedDocument]) -> Rejects:
    """Those that are *refused*, by their positions, as a chunk tells them."""
    if not refused:
        return Rejects()
    offsets: Int64s = np.fromiter(refused, np.int64)
    rows = pl.DataFrame(
        {
            OFFSET: offsets,
            SUB: np.zeros(len(offsets), np.uint32),
            "code": [why.code for why in refused.values()],
            "message": [why.message for why in refused.values()],
        }
    )
    return Rejects.of(rows, "read", pl.col("code"), pl.col("message"))
