"""Feeds: a split is opened where it is asked for, read on from there, one chunk ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.errors import Transient
from streamcore.transport.bookmarks import Bookmarks
from streamcore.transport.embedded_feed import FeedReader, SplitFeed

SOURCE = PartitionId("numbers", 0, "run")
NO_BOOKMARKS = Bookmarks(Path("/nowhere"))


class Split:
    """The numbers from 0 to *count*, two a chunk."""

    name, size, bookmark = "numbers", 0, b""

    def __init__(self, count: int) -> None:
        self.count, self.opened, self.closed = count, list[int](), 0
        self.fail_once = False

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> Split.Reader:
        self.opened.append(position)
        return self.Reader(self, source, position)

    class Reader:
        def __init__(self, split: Split, source: PartitionId, at: int) -> None:
            self.split, self.source, self.at = split, source, at

        def read(self, max_bytes: int) -> Chunk | None:
            if self.split.fail_once:
                self.split.fail_once = False
                raise Transient("the connection was lost")
            if self.at >= self.split.count:
                return None
            offsets = np.arange(self.at, min(self.at + 2, self.split.count), dtype=np.int64)
            self.at = int(offsets[-1]) + 1
            return RecordChunk(self.source, offsets, [b"%d" % o for o in offsets.tolist()])

        def close(self) -> None:
            self.split.closed += 1


def test_reading_on_does_not_open_again_and_a_seek_does() -> None:
    split = Split(7)
    feed = SplitFeed(split, SOURCE, NO_BOOKMARKS)
    first, second = feed.read(0, 100), feed.read(2, 100)
    assert first is not None
    assert second is not None
    assert (first.covered, second.covered) == ((0, 2), (2, 4))
    again = feed.read(2, 100)
    assert again is not None
    assert again.values() == [b"2", b"3"]
    assert (split.opened, split.closed) == ([0, 2], 1)
    feed.close()
    assert split.closed == 2


def test_the_end_is_known_once_it_was_reached_and_nothing_is_opened_behind_it() -> None:
    split = Split(3)
    feed = SplitFeed(split, SOURCE, NO_BOOKMARKS)
    position = 0
    assert feed.end() is None
    while chunk := feed.read(position, 100):
        position = chunk.end
    assert feed.end() == 3
    assert feed.read(3, 100) is None
    assert (split.opened, split.closed) == ([0], 1)
    earlier = feed.read(1, 100)
    assert earlier is not None
    assert earlier.first == 1


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


class Woken:
    """A consumer's wake, to wait for."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.event.set()

    async def chunk_at(self, reader: FeedReader, position: int) -> Chunk | None:
        for _ in range(3):
            self.event.clear()
            if (chunk := reader.chunk_at(position)) is not None:
                return chunk
            await self.event.wait()
        return reader.chunk_at(position)


@pytest.fixture
async def reading(threads: ThreadPoolExecutor) -> AsyncIterator[tuple[Split, FeedReader, Woken]]:
    split, woken = Split(6), Woken()
    reader = FeedReader(SplitFeed(split, SOURCE, NO_BOOKMARKS), 100, threads, woken)
    yield split, reader, woken
    await reader.close()
    threads.shutdown()


async def test_the_same_chunk_is_given_until_the_next_is_asked_for(
    reading: tuple[Split, FeedReader, Woken],
) -> None:
    _, reader, woken = reading
    first = await woken.chunk_at(reader, 0)
    assert first is not None
    assert reader.chunk_at(0) is first
    second = await woken.chunk_at(reader, 2)
    assert second is not None
    assert second.covered == (2, 4)


async def test_a_seek_reads_from_there(reading: tuple[Split, FeedReader, Woken]) -> None:
    split, reader, woken = reading
    await woken.chunk_at(reader, 0)
    await woken.chunk_at(reader, 2)
    chunk = await woken.chunk_at(reader, 0)
    assert chunk is not None
    assert chunk.values() == [b"0", b"1"]
    assert split.opened == [0, 0]


async def test_what_reading_raises_comes_out_and_asking_again_reads_again(
    reading: tuple[Split, FeedReader, Woken],
) -> None:
    split, reader, woken = reading
    split.fail_once = True
    with pytest.raises(Transient, match="connection was lost"):
        await woken.chunk_at(reader, 0)
    chunk = await woken.chunk_at(reader, 0)
    assert chunk is not None
    assert chunk.first == 0


async def test_at_the_end_nothing_more_is_read(reading: tuple[Split, FeedReader, Woken]) -> None:
    split, reader, woken = reading
    for position in (0, 2, 4):
        await woken.chunk_at(reader, position)
    assert await asyncio.wait_for(_end_of(reader, woken), 5) is None
    woken.event.clear()
    assert reader.chunk_at(6) is None
    assert not woken.event.is_set()
    assert split.opened == [0]


async def _end_of(reader: FeedReader, woken: Woken) -> Chunk | None:
    if (chunk := reader.chunk_at(6)) is None:
        await woken.event.wait()
        chunk = reader.chunk_at(6)
    return chunk
