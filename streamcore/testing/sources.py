"""Conformance suites of bounded sources: one named test for each sentence of ``contracts.BoundedSource``,
``Split`` and ``SplitReader``. :class:`FileSourceConformance` is for what lies still in files,
:class:`TableSourceConformance` for tables of a database, whose rows may change while they are read.

A source's test module subclasses it and says how to make the input anew::

    class TestCsv(FileSourceConformance):
        def write(self, folder: Path, content: SourceContent) -> None: ...
        def open(self, folder: Path) -> BoundedSource: ...

The suite compares what was written with what is read, whole and in pieces.
"""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import BoundedSource, Split, SplitReader

__all__ = [
    "BoundedSourceConformance",
    "FileSourceConformance",
    "ReadRecord",
    "SourceContent",
    "StreamedSourceConformance",
    "TableSourceConformance",
    "read_source",
    "read_split",
]

SOURCE = PartitionId("conformance", 0, "conformance")
_SIZES = (1, 7, 100, 4096, 1 << 22)


@dataclass(frozen=True, slots=True)
class SourceContent:
    """What to write: ``rows`` good records, numbered from ``start``, a bad one after every ``bad_every``.

    Row *i* is ``{"id": i, "name": "name <i>"}`` in whatever way the format holds it; *bad_every* is
    None unless the source says that it can hold :attr:`BoundedSourceConformance.bad_code`.
    """

    rows: int
    start: int = 0
    bad_every: int | None = None

    def good(self) -> list[dict[str, object]]:
        """The rows in their order."""
        return [{"id": i, "name": f"name {i}"} for i in range(self.start, self.start + self.rows)]


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record as it was read: where, and its row (frames), its bytes, or why it was refused."""

    position: int
    value: object
    refused: str | None = None


def records_of(chunk: Chunk) -> list[ReadRecord]:
    """The records of *chunk* in order, refused ones included; AssertionError where it breaks the contract."""
    offsets = chunk.offsets().tolist()
    values: Sequence[object] = chunk.values() if chunk.frame is None else chunk.frame.rows()
    assert len(chunk) == len(offsets) == len(values), "one position a record"
    refused = chunk.rejects.frame.select("_offset", "code", "stage").rows()
    assert all(stage == "read" for _, _, stage in refused), "a reader's rejects have stage 'read'"
    found = [ReadRecord(at, value) for at, value in zip(offsets, values, strict=True)]
    found += [ReadRecord(at, chunk.original(at).data, code) for at, code, _ in refused]
    positions = [record.position for record in found]
    assert len(set(positions)) == len(positions), "a position is one record's, and it is read or refused"
    assert all(chunk.first <= at < chunk.end for at in positions), "records lie in the covered range"
    assert offsets == sorted(offsets), "positions grow"
    return sorted(found, key=lambda record: record.position)


def read_chunks(reader: SplitReader, position: int, max_bytes: int) -> Iterator[Chunk]:
    """The chunks of *reader*, opened at *position*, which must join without a hole."""
    try:
        while (chunk := reader.read(max_bytes)) is not None:
            assert chunk.first == position, "a chunk begins where the last one ended"
            assert chunk.end > chunk.first, "a chunk covers something"
            assert len(chunk) + len(chunk.rejects) > 0, "a chunk has at least one record"
            assert chunk.source == SOURCE, "chunks carry the source that they were opened for"
            position = chunk.end
            yield chunk
        assert reader.read(max_bytes) is None, "the end stays the end"
    finally:
        reader.close()


def read_split(split: Split, behind: Chunk | None = None, max_bytes: int = 1 << 20) -> list[ReadRecord]:
    """All records of *split*, or those *behind* a chunk of it."""
    position, bookmark = (behind.end, behind.bookmark) if behind is not None else (0, split.bookmark)
    chunks = read_chunks(split.open(SOURCE, position, bookmark), position, max_bytes)
    return [record for chunk in chunks for record in records_of(chunk)]


def read_source(source: BoundedSource, wanted: int = 1) -> list[ReadRecord]:
    """All records of *source*, split by split."""
    return [record for split in source.splits(wanted) for record in read_split(split)]


class BoundedSourceConformance:
    """The laws of a bounded source. ``folder`` is an empty one of the test's own."""

    bad_code: str | None = None
    """The code of the records that ``write`` makes when told to make bad ones; None: the format has none."""

    known_columns: Mapping[str, pl.DataType] | None = None
    """What ``columns()`` must be; None where the source can't know."""

    splits_of_one, splits_of_four = 1, 1
    """How many splits 2,000 rows give when one and when four are wanted."""

    def write(self, folder: Path, content: SourceContent) -> None:
        """Write *content* into *folder*, over what was there."""
        raise NotImplementedError

    def open(self, folder: Path) -> BoundedSource:
        """The source of what ``write`` wrote."""
        raise NotImplementedError

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        """The row of a good record: ``id`` a number, ``name`` a text."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path

    def source(self, folder: Path, rows: int = 300, *, bad: bool = False) -> BoundedSource:
        """A source of *rows* rows, with a bad record after every 50th if *bad* and the format has them."""
        self.write(folder, SourceContent(rows, bad_every=50 if bad and self.bad_code else None))
        return self.open(folder)

    def rows(self, records: Sequence[ReadRecord]) -> list[dict[str, object]]:
        return [dict(self.row_of(record)) for record in records if record.refused is None]

    # ------------------------------------------------------------ reading

    def test_every_record_is_read_once_in_order(self, folder: Path) -> None:
        assert self.rows(read_source(self.source(folder))) == SourceContent(300).good()

    def test_any_max_bytes_gives_the_same_records(self, folder: Path) -> None:
        split = self.source(folder, bad=True).splits(1)[0]
        readings = [read_split(split, max_bytes=size) for size in _SIZES]
        assert all(reading == readings[0] for reading in readings)

    def test_max_bytes_bounds_a_chunk(self, folder: Path) -> None:
        split = self.source(folder, 2000).splits(1)[0]
        reader = split.open(SOURCE, 0)
        assert sum(1 for _ in read_chunks(reader, 0, 4096)) >= 4

    def test_resuming_at_any_chunks_end_equals_reading_through(self, folder: Path) -> None:
        split = self.source(folder, bad=True).splits(1)[0]
        whole = read_split(split)
        for chunk in list(read_chunks(split.open(SOURCE, 0), 0, 1024)):
            rest = [record for record in whole if record.position >= chunk.end]
            assert read_split(split, chunk, 700) == rest

    def test_the_same_position_gives_the_same_records(self, folder: Path) -> None:
        source = self.source(folder, bad=True)
        assert read_source(source) == read_source(source) == read_source(self.open(folder))

    def test_an_empty_input_has_no_records(self, folder: Path) -> None:
        assert read_source(self.source(folder, 0)) == []

    def test_a_reader_closed_early_does_no_harm(self, folder: Path) -> None:
        split = self.source(folder).splits(1)[0]
        whole = read_split(split)
        early = split.open(SOURCE, 0)
        assert early.read(1) is not None
        early.close()
        assert read_split(split) == whole

    # ------------------------------------------------------------ splits

    @pytest.mark.parametrize("wanted", [1, 2, 3, 4, 17])
    def test_splits_cover_all_records_exactly_once(self, folder: Path, wanted: int) -> None:
        source = self.source(folder, 2000, bad=True)
        assert self.rows(read_source(source, wanted)) == SourceContent(2000).good()
        refused = [sum(1 for r in read_source(source, n) if r.refused) for n in (1, wanted)]
        assert refused[0] == refused[1]

    def test_there_are_about_as_many_splits_as_wanted(self, folder: Path) -> None:
        source = self.source(folder, 2000)
        assert (len(source.splits(1)), len(source.splits(4))) == (self.splits_of_one, self.splits_of_four)

    def test_splits_are_the_same_each_time(self, folder: Path) -> None:
        source = self.source(folder, 2000)
        first, again = source.splits(3), self.open(folder).splits(3)
        assert [(s.name, s.size, s.bookmark) for s in first] == [(s.name, s.size, s.bookmark) for s in again]

    def test_a_split_is_resumed_like_a_whole(self, folder: Path) -> None:
        split = self.source(folder, 2000).splits(3)[-1]
        whole = read_split(split)
        for chunk in list(read_chunks(split.open(SOURCE, 0), 0, 8192)):
            assert read_split(split, chunk) == [r for r in whole if r.position >= chunk.end]

    def test_splits_have_names_of_their_own_and_a_size(self, folder: Path) -> None:
        splits = self.source(folder, 2000).splits(3)
        assert len({split.name for split in splits}) == len(splits)
        assert all(split.size > 0 or (split.bookmark and split.size == 0) for split in splits), (
            "an estimate may be unknown"
        )

    # ------------------------------------------------------------ identity

    def test_the_fingerprint_stays_while_nothing_changes(self, folder: Path) -> None:
        assert self.source(folder).fingerprint() == self.open(folder).fingerprint()

    def test_columns_are_known_before_reading(self, folder: Path) -> None:
        found = self.source(folder).columns()
        assert (None if found is None else dict(found)) == self.known_columns

    # ------------------------------------------------------------ bad records

    def test_bad_records_are_refused_and_their_neighbours_pass(self, folder: Path) -> None:
        records = read_source(self.source(folder, bad=True))
        assert self.rows(records) == SourceContent(300).good()
        refused = [record for record in records if record.refused]
        assert [record.refused for record in refused] == [self.bad_code] * (6 if self.bad_code else 0)
        assert all(record.value for record in refused), "a refused record keeps its original bytes"

    def test_messages_hold_no_content(self, folder: Path) -> None:
        split = self.source(folder, bad=True).splits(1)[0]
        for chunk in read_chunks(split.open(SOURCE, 0), 0, 1 << 20):
            assert not any(re.search(r"name \d", text) for text in chunk.rejects.frame["message"].to_list())


class FileSourceConformance(BoundedSourceConformance):
    """The laws of files besides: positions are places, and another content is another replay.

    ``bookmarked``: bookmarks save reading what lies before a place; without them it is the same.
    """

    bookmarked = False

    def test_bookmarks_are_empty_or_can_be_done_without(self, folder: Path) -> None:
        split = self.source(folder).splits(1)[0]
        chunks = list(read_chunks(split.open(SOURCE, 0), 0, 1024))
        if not self.bookmarked:
            assert {split.bookmark, *(chunk.bookmark for chunk in chunks)} == {b""}
            return
        behind = chunks[len(chunks) // 2]
        with_it = list(read_chunks(split.open(SOURCE, behind.end, behind.bookmark), behind.end, 1024))
        without = list(read_chunks(split.open(SOURCE, behind.end), behind.end, 1024))
        assert [chunk.bookmark for chunk in with_it] == [chunk.bookmark for chunk in without]
        assert list(map(records_of, with_it)) == list(map(records_of, without))

    def test_the_fingerprint_changes_with_the_content(self, folder: Path) -> None:
        before = self.source(folder).fingerprint()
        self.write(folder, SourceContent(300, start=700))
        assert self.open(folder).fingerprint() != before

    def test_the_fingerprint_changes_with_the_size(self, folder: Path) -> None:
        before = self.source(folder).fingerprint()
        self.write(folder, SourceContent(301))
        assert self.open(folder).fingerprint() != before

    def test_the_fingerprint_changes_with_the_modification_time(self, folder: Path) -> None:
        before = self.source(folder).fingerprint()
        for path in folder.iterdir():
            os.utime(path, ns=(1, 1))
        assert self.open(folder).fingerprint() != before


class TableSourceConformance(BoundedSourceConformance):
    """The laws of tables besides, with ``id`` as the key: bookmarks say where reading goes on."""

    splits_of_four = 4

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        """Delete and insert rows with these ids, as another client of the database."""
        raise NotImplementedError

    def test_the_fingerprint_is_not_of_the_rows(self, folder: Path) -> None:
        before = self.source(folder).fingerprint()
        self.change(folder, [3], [1000])
        assert self.open(folder).fingerprint() == before

    def test_a_later_process_goes_on_behind_the_last_row(self, folder: Path) -> None:
        split = self.source(folder, 300).splits(1)[0]
        reader = split.open(SOURCE, 0, split.bookmark)
        chunk = next(read_chunks(reader, 0, 2000))
        assert 5 < len(chunk) < 290
        read = [row["id"] for row in self.rows(records_of(chunk))]
        self.change(folder, [5, 295], [-7, 1000])
        later = self.rows(read_split(self.open(folder).splits(1)[0], chunk))
        ids = [i for i in [*range(300), 1000] if i > len(read) - 1 and i != 295]
        assert [row["id"] for row in later] == ids, (
            "none twice, none lost, behind the bookmark as they are now"
        )

    def test_a_later_process_has_the_ranges_of_the_first(self, folder: Path) -> None:
        first = self.source(folder, 300).splits(3)
        self.change(folder, list(range(200)), list(range(1000, 1400)))
        now = self.open(folder).splits(3)
        assert len(now) == len(first)
        ids = [
            row["id"]
            for was, split in zip(first, now, strict=True)
            for chunk in read_chunks(split.open(SOURCE, 0, was.bookmark), 0, 1 << 20)
            for row in self.rows(records_of(chunk))
        ]
        assert ids == [*range(200, 300), *range(1000, 1400)]

    def test_more_splits_than_rows(self, folder: Path) -> None:
        splits = self.source(folder, 3).splits(8)
        assert len(splits) == 8
        assert len([record for split in splits for record in read_split(split)]) == 3


class StreamedSourceConformance(FileSourceConformance):
    """For sources that don't hold a whole split in memory."""

    def test_memory_does_not_grow_with_the_input(self, folder: Path) -> None:
        def peak(rows: int) -> int:
            reader = self.source(folder, rows).splits(1)[0].open(SOURCE, 0)
            tracemalloc.start()
            for _ in read_chunks(reader, 0, 1 << 14):
                pass
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

        peak(100)  # what is made once and kept
        assert peak(20_000) < 2 * peak(2_000) + (1 << 20)
