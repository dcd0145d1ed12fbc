"""Partitions that are read from a bounded source on demand, instead of from a log.

A file replayed through the embedded transport is not copied: its splits are :class:`Feed` partitions
of an attached topic. A :class:`FeedReader` reads one chunk ahead in a thread, so that reading
overlaps with the work on the chunk before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import Split, SplitReader
from streamcore.transport.bookmarks import Bookmarks


class Feed(Protocol):
    """One partition of an attached topic. Called from a worker thread, one call at a time."""

    @property
    def source(self) -> PartitionId: ...

    def read(self, position: int, max_bytes: int) -> Chunk | None:
        """The chunk of about *max_bytes* that starts at *position*, None at the end.

        *position* is 0 or the ``end`` of an earlier chunk, also one of an earlier run; the same
        position gives the same records. Errors as of ``SplitReader.read``.
        """
        ...

    def end(self) -> int | None:
        """The position at which the feed ends; None while that is not known. Cheap, from any thread."""
        ...

    def close(self) -> None: ...


class SplitFeed:
    """A contracts.Split as a Feed: opens it at the position that is asked for, and reads on from there.

    *bookmarks* are kept for a split that has them.
    """

    def __init__(self, split: Split, source: PartitionId, bookmarks: Bookmarks) -> None:
        self._split, self._source = split, source
        self._reader: SplitReader | None = None
        self._at = 0
        self._bookmarks = bookmarks if split.bookmark else None
        self._end = self._bookmarks.end(source.partition) if self._bookmarks else None

    @property
    def source(self) -> PartitionId:
        """Which partition the chunks are of."""
        return self._source

    @property
    def split(self) -> Split:
        """What is read."""
        return self._split

    def read(self, position: int, max_bytes: int) -> Chunk | None:
        """See :class:`Feed`."""
        if self._end is not None and position >= self._end:
            return None
        if self._reader is None or position != self._at:
            self.close()
            self._reader, self._at = self._open(position), position
        try:
            chunk = self._reader.read(max_bytes)
        except BaseException:
            self.close()  # where it stands is unknown: a repeated read opens it again
            raise
        if chunk is None:
            if self._bookmarks:
                self._bookmarks.ended(self._source.partition, self._at)
            self._end = self._at
            self.close()
        else:
            if self._bookmarks:
                self._bookmarks.add(self._source.partition, chunk.end, chunk.bookmark)
            self._at = chunk.end
        return chunk

    def _open(self, position: int) -> SplitReader:
        if self._bookmarks is None:
            return self._split.open(self._source, position)
        number = self._source.partition
        self._bookmarks.first(number, self._split.bookmark)
        return self._split.open(self._source, position, self._bookmarks.at(number, position))

    def end(self) -> int | None:
        """See :class:`Feed`."""
        return self._end

    def close(self) -> None:
        """Close the split; a later ``read`` opens it again."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


class FeedReader:
    """Reads *feed* for one consumer, one chunk ahead. *wake* is called in the loop when a read is done."""

    def __init__(self, feed: Feed, max_bytes: int, executor: Executor, wake: Callable[[], None]) -> None:
        self._feed, self._max_bytes, self._executor, self._wake = feed, max_bytes, executor, wake
        self._chunk: Chunk | None = None
        self._chunk_at = self._reads_at = -1
        self._reading: asyncio.Future[Chunk | None] | None = None

    def chunk_at(self, position: int) -> Chunk | None:
        """The chunk at *position* if it has been read; None while it is being read, and at the end.

        The same chunk is given until another position is asked for. Raises what reading raised.
        """
        if self._chunk is not None and self._chunk_at == position:
            return self._chunk
        self._chunk = None
        if self._reading is None:
            self._read(position)
            return None
        if not self._reading.done():
            return None
        if self._reads_at != position:  # sought elsewhere since
            self._reading.exception()
            self._read(position)
            return None
        reading, self._reading = self._reading, None
        self._chunk, self._chunk_at = reading.result(), position
        if self._chunk is not None:
            self._read(self._chunk.end)
        else:
            self._reading = reading  # the end: not read again
        return self._chunk

    def _read(self, position: int) -> None:
        self._reads_at = position
        loop = asyncio.get_running_loop()
        self._reading = loop.run_in_executor(self._executor, self._feed.read, position, self._max_bytes)
        self._reading.add_done_callback(lambda _: self._wake())

    async def close(self) -> None:
        """Wait for a read that is under way; its chunk is dropped."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.exception()  # retrieved: nobody waits for it any more
        self._reading = self._chunk = None
