"""Bookmarks: durable, the first ones stay, a torn end is cut, and a feed opens its split where they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.errors import Permanent
from streamcore.transport.bookmarks import Bookmarks
from streamcore.transport.embedded_feed import SplitFeed

SOURCE = PartitionId("letters", 1, "run")


class Letters:
    """A split of letters, two a chunk, whose bookmarks are the letters that are left."""

    name, size = "letters", 0

    def __init__(self, letters: str) -> None:
        self.bookmark, self.opened = letters.encode(), list[tuple[int, bytes]]()

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> Letters.Reader:
        self.opened.append((position, bookmark))
        return self.Reader(source, position, bookmark)

    class Reader:
        def __init__(self, source: PartitionId, at: int, left: bytes) -> None:
            self.source, self.at, self.left = source, at, left

        def read(self, max_bytes: int) -> Chunk | None:
            taken, self.left = self.left[:2], self.left[2:]
            if not taken:
                return None
            offsets = np.arange(self.at, self.at + len(taken), dtype=np.int64)
            self.at += len(taken)
            chunk = RecordChunk(self.source, offsets, [bytes([letter]) for letter in taken])
            chunk.bookmark = self.left
            return chunk

        def close(self) -> None: ...


def read(feed: SplitFeed, position: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while (chunk := feed.read(position, 100)) is not None:
        found += chunk.values()
        position = chunk.end
    return found


def test_what_was_added_is_there_in_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    marks = Bookmarks(path)
    assert not path.exists()
    marks.first(0, b"\x00begin")
    marks.add(0, 7, b"seven")
    marks.ended(1, 9)
    for known in (marks, Bookmarks(path)):
        assert (known.at(0, 0), known.at(0, 7)) == (b"\x00begin", b"seven")
        assert (known.end(0), known.end(1)) == (None, 9)


def test_the_first_bookmark_is_that_of_the_first_process(tmp_path: Path) -> None:
    Bookmarks(tmp_path / "m").first(0, b"old")
    later = Bookmarks(tmp_path / "m")
    later.first(0, b"new")
    assert later.at(0, 0) == b"old"


def test_a_position_that_is_not_known_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="--again"):
        Bookmarks(tmp_path / "m").at(0, 5)


@pytest.mark.parametrize("torn", [b"", b"[1,", b'[1,4,"YQ=="]', b"\0\0\0\n", b"3\n"])
def test_whatever_a_crash_leaves_at_the_end_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "m"
    Bookmarks(path).add(1, 2, b"two")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    marks = Bookmarks(path)
    assert marks.at(1, 2) == b"two"
    assert path.read_bytes() == whole
    marks.add(1, 4, b"four")
    assert Bookmarks(path).at(1, 4) == b"four"


def test_a_feed_goes_on_at_any_chunks_end_in_another_process(tmp_path: Path) -> None:
    split, path = Letters("abcdefg"), tmp_path / "m"
    whole = read(SplitFeed(split, SOURCE, Bookmarks(path)), 0)
    assert whole == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    before_the_end = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
    for position in (0, 2, 4, 6, 7):
        path.write_bytes(before_the_end)  # as if killed there
        other = Letters("other bounds")
        assert read(SplitFeed(other, SOURCE, Bookmarks(path)), position) == whole[position:]
        assert other.opened == [(position, b"abcdefg"[position:])]


def test_a_split_that_ended_has_ended_for_good(tmp_path: Path) -> None:
    assert len(read(SplitFeed(Letters("abc"), SOURCE, Bookmarks(tmp_path / "m")), 0)) == 3
    grown = Letters("abcdef")
    feed = SplitFeed(grown, SOURCE, Bookmarks(tmp_path / "m"))
    assert feed.end() == 3
    assert read(feed, 3) == []
    assert grown.opened == []
