"""Pages of documents as BSON: columns are made of them at once, and JSON where someone asks for that.

What a document means is its JSON (:mod:`streamcore.systems.mongo_documents`). Columns are made of those that
are beyond doubt; the others are decoded one by one, which also finds those that JSON has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from batch_adapters.documents import RECORD_BYTES, RefusedDocument, rejects_of
from batch_adapters.key_ranges import Key
from streamcore.batch import Chunk, Int64s, Original, PartitionId
from streamcore.systems.bson_columns import column_of
from streamcore.systems.bson_documents import Documents
from streamcore.systems.bson_elements import FEW, BsonBytes, Field, walk
from streamcore.systems.mongo_documents import Reply, decoded, key_of

Bools = npt.NDArray[np.bool_]
_TOGETHER = 1_000
"""So many documents are Python objects at a time: more leave the processor's caches."""


@dataclass(frozen=True, slots=True)
class BsonPage:
    """A page of *documents* in the order of the members *key*. Those that are *hidden* are not its rows'."""

    documents: Documents
    key: Sequence[str]
    hidden: Sequence[str] = ()

    def last_key(self) -> Key:
        """See :class:`batch_adapters.key_ranges.Page`."""
        return key_of(self.documents.pick([len(self.documents) - 1]), self.key)

    def repeated_key(self, behind: Key | None) -> Key | None:
        """None: MongoDB keeps ids unique itself."""
        return None

    def chunk(self, source: PartitionId, first: int) -> BsonChunk:
        """See :class:`batch_adapters.key_ranges.Page`."""
        return BsonChunk(source, first, self)

    def reply(self, places: Sequence[int]) -> Reply:
        """The documents at *places* as JSON."""
        reply = Reply([], [], {})
        for start in range(0, len(places), _TOGETHER):
            documents, broken = decoded(self.documents.pick(places[start : start + _TOGETHER]))
            reply.add(documents, self.hidden, broken)
        return reply


class BsonChunk(Chunk):
    """The documents of *page* at the positions *first* and on, without those that JSON has not.

    It has columns: :class:`streamcore.contracts.documents.DocumentColumns`.
    """

    __slots__ = ("_bytes", "_fields", "_good", "_page", "_refused", "_sure", "_texts")

    def __init__(self, source: PartitionId, first: int, page: BsonPage) -> None:
        documents, count = page.documents, len(page.documents)
        self._page, self._bytes = page, BsonBytes(documents.data)
        fields, sure = walk(self._bytes, documents.starts, documents.ends, FEW)
        odd = np.flatnonzero(~sure).tolist()
        reply = page.reply(odd)
        self._refused = {first + odd[at]: RefusedDocument(*why) for at, why in reply.refused.items()}
        self._texts = [b""] * count
        self._keep(odd, reply)
        self._good = np.setdiff1d(np.arange(first, first + count), list(self._refused), True) - first
        self._sure: Bools = sure[self._good]
        self._fields = {name: field.take(self._good) for name, field in fields.items()}
        nbytes = len(documents.data) + RECORD_BYTES * count + sum(one.nbytes for one in self._fields.values())
        rejects = rejects_of(self._refused)
        super().__init__(source, first, first + count, nbytes=nbytes, rejects=rejects)

    def __len__(self) -> int:
        return len(self._good)

    def offsets(self) -> Int64s:
        return self._good + self.first

    def values(self) -> list[bytes | None]:
        return [*self._json(self._good)]

    def texts(self, places: Sequence[int]) -> list[bytes]:
        """See :class:`streamcore.contracts.documents.DocumentColumns`. They are kept."""
        return self._json(self._good[places])

    def _json(self, places: Int64s) -> list[bytes]:
        """The texts of the documents at *places* of the page, none of which is refused."""
        wanted = places.tolist()
        missing = [place for place in wanted if not self._texts[place]]
        self._keep(missing, self._page.reply(missing))
        return [self._texts[place] for place in wanted]

    def _keep(self, places: Sequence[int], reply: Reply) -> None:
        for place, text in zip(places, reply.texts, strict=True):
            self._texts[place] = text

    def column(self, name: str, dtype: pl.DataType) -> tuple[pl.Series, Bools] | None:
        """See :class:`streamcore.contracts.documents.DocumentColumns`."""
        if not self._sure.any():
            return None
        field = self._fields.get(name)
        if field is None or (name in self._page.hidden):
            field = Field.nowhere(len(self))
        made = column_of(self._bytes, field, self._sure, dtype)
        return None if made is None else (made[0].alias(name), made[1])

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`; a refused document as it came."""
        why = self._refused.get(offset)
        if why is not None:
            return Original(why.original, "bytes")
        return Original(self.texts(self.index(np.array([offset], np.int64)).tolist())[0], "bytes")
