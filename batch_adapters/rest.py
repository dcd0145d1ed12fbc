"""REST collections as bounded streams: ``https://api.example.com/users?pagination=page&page_size=100``.

Rows are the elements of an array of the answer, as they stand there; the stream's JSON decoder judges them.

Pages are asked for one after the other. Positions count rows, and a bookmark is the page to go on at and how
many of its rows have been read: a run that goes on asks for that page again. What the server inserts or
deletes before it meanwhile shifts rows from page to page, as for anyone who pages through it; cursors and
links of most servers are not shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
import polars as pl

from batch_adapters.rest_collection import Collection, PageClient, collection_of
from batch_adapters.rest_options import RestOptions
from batch_adapters.rest_pages import Page, Place
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Split, SplitReader

ROW_BYTES = 60
"""What a row costs in memory beside its bytes."""


def open_rest(uri: str, options: RestOptions) -> RestSource:
    """The source that *uri* and *options* say; BadConfig when they can't be meant. Nothing is asked yet."""
    return RestSource(collection_of(uri, options))


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where to go on: the page at ``place`` without its first ``read`` rows; ``ended``: nothing is left."""

    place: Place | None = None
    read: int = 0
    ended: bool = False

    def pack(self) -> bytes:
        return orjson.dumps([self.place, self.read, self.ended])

    @classmethod
    def unpack(cls, bookmark: bytes) -> _Mark:
        return cls(*orjson.loads(bookmark)) if bookmark else cls()


@dataclass(frozen=True, slots=True)
class RestSource:
    """A collection as a source, and its only split: pages come one after the other."""

    collection: Collection

    @property
    def uri(self) -> str:
        return self.collection.uri

    @property
    def name(self) -> str:
        """The split's."""
        return self.uri

    size = 0
    bookmark = _Mark().pack()

    def fingerprint(self) -> str:
        return self.collection.fingerprint()

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def splits(self, wanted: int) -> Sequence[Split]:
        return [self]

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        return RestReader(self.collection, source, position, _Mark.unpack(bookmark))


class RestReader:
    """Reads pages one after the other. Nothing is asked before :meth:`read`."""

    def __init__(self, collection: Collection, source: PartitionId, position: int, mark: _Mark) -> None:
        self._collection, self._source, self._position, self._mark = collection, source, position, mark
        self._client = PageClient(collection)
        self._page: Page | None = None

    def read(self, max_bytes: int) -> Chunk | None:
        page = self._current()
        if page is None:
            return None
        data, starts, ends = page.rows
        left = len(starts) - self._mark.read
        starts, ends = starts[self._mark.read :], ends[self._mark.read :]
        costs = np.cumsum(ends - starts + ROW_BYTES)
        count = max(1, int(np.searchsorted(costs, max_bytes, side="right")))
        spans = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
        values = [data[start:end] for start, end in spans]
        first = self._position
        self._position += len(values)
        chunk = RecordChunk(self._source, np.arange(first, self._position), values)
        if len(values) < left:
            self._mark = replace(self._mark, read=self._mark.read + len(values))
        else:
            self._turn(page)
        chunk.bookmark = self._mark.pack()
        return chunk

    def close(self) -> None:
        self._client.close()

    def _current(self) -> Page | None:
        """The page with rows that are still to be read; None at the end."""
        while not self._mark.ended:
            if self._page is None:
                self._page = self._client.ask(self._mark.place, self._collection.base).result()
                assert self._page is not None
            if self._mark.read < len(self._page.rows.starts):
                return self._page
            self._turn(self._page)
        return None

    def _turn(self, page: Page) -> None:
        """Behind *page*."""
        following = self._collection.following(page, self._mark.place)
        self._mark, self._page = _Mark(following, ended=following is None), None
