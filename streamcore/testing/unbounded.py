"""The conformance suite of unbounded sources: one named test for each sentence of ``contracts.unbounded``.

A source's test module subclasses it and says how another client of the system writes::

    class TestOrders(UnboundedSourceConformance):
        def write(self, ids: Sequence[int]) -> None: ...
        def source(self) -> UnboundedSource: ...

Besides the reader's laws, the suite feeds the source into an embedded log through faults at each step, and
looks whether each row is there once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import polars as pl
import pytest

from streamcore.contracts.unbounded import (
    CatchingUpReader,
    Polled,
    Taken,
    UnboundedReader,
    UnboundedSource,
)
from streamcore.testing.feeding import DEADLINE, fed

__all__ = ["CatchingUpConformance", "UnboundedSourceConformance", "ids_of", "polled", "reading"]

_AGAIN = 0.01
_SIZES = (1, 200, 4096, 1 << 20)


@contextmanager
def reading(source: UnboundedSource, bookmark: bytes = b"") -> Iterator[UnboundedReader]:
    """A reader of *source*, closed at the end."""
    reader = source.open(bookmark)
    try:
        yield reader
    finally:
        reader.close()


def ids_of(found: Polled, id_column: str = "id") -> list[tuple[int, bool]]:
    """The ids of a poll's rows, in order, and whether they are gone. Rows may be documents or frames."""
    ids: list[tuple[int, bool]] = []
    for part in found.parts:
        ids += [(int(str(value)), part.deleted) for value in _values(part, id_column)]
    return ids


def _values(part: Taken, column: str) -> Sequence[object]:
    if part.deleted and part.chunk.frame is not None and part.chunk.frame.width == 1:
        return part.chunk.frame.to_series().to_list()  # what the source knows its rows by
    if part.chunk.frame is not None:
        return part.chunk.frame[column].to_list()
    return [orjson.loads(value or b"{}")[column] for value in part.chunk.values()]


def polled(reader: UnboundedReader, rows: int, max_bytes: int = 1 << 20) -> list[Polled]:
    """What *reader* gives: *rows* rows, and then nothing. AssertionError when they do not come."""
    deadline, found = time.monotonic() + DEADLINE, list[Polled]()
    nothing = 0
    while nothing < 2 or sum(len(ids_of(one)) for one in found) < rows:
        one = reader.poll(max_bytes, time.time())
        nothing = 0 if one is not None and one.parts else nothing + 1
        if one is not None and one.parts:
            found.append(one)
        elif one is None:
            time.sleep(_AGAIN)
        got = sum(len(ids_of(one)) for one in found)
        assert time.monotonic() < deadline, f"{got} rows of {rows} came within {DEADLINE:g} s"
    return found


def _ids(found: Sequence[Polled]) -> list[int]:
    return [id for one in found for id, _ in ids_of(one)]


class UnboundedSourceConformance:
    """The laws of an unbounded source. Its rows are ``{"id": i, "name": "name <i>"}``."""

    row_bytes = 8
    """At least so many bytes of memory does a row take: 2,000 of them are several polls of 2,000 of these."""

    def write(self, ids: Sequence[int]) -> None:
        """As another client: rows with these ids appear in this order, or change; durable on return."""
        raise NotImplementedError

    def delete(self, ids: Sequence[int]) -> None:
        """As another client: these rows go. For sources that tell of it."""
        raise NotImplementedError

    def source(self) -> UnboundedSource:
        """What ``write`` writes to, as a new process opens it; it does not wait for rows to settle."""
        raise NotImplementedError

    # ------------------------------------------------------------ reading

    def test_rows_that_are_there_come_once_in_their_order(self) -> None:
        self.write(range(300))
        with reading(self.source()) as reader:
            assert _ids(polled(reader, 300)) == list(range(300))

    def test_rows_that_come_later_come(self) -> None:
        self.write(range(10))
        with reading(self.source()) as reader:
            assert _ids(polled(reader, 10)) == list(range(10))
            for start in (10, 15):
                self.write(range(start, start + 5))
                assert _ids(polled(reader, 5)) == list(range(start, start + 5))

    def test_a_poll_that_finds_nothing_returns_soon(self) -> None:
        self.write([1])
        with reading(self.source()) as reader:
            polled(reader, 1)
            began = time.monotonic()
            found = reader.poll(1 << 20, time.time())
            assert found is None or not found.parts
            assert time.monotonic() - began < 5, "a second or so, on a machine that is busy"

    @pytest.mark.parametrize("max_bytes", _SIZES)
    def test_any_max_bytes_gives_the_same_rows(self, max_bytes: int) -> None:
        self.write(range(100))
        with reading(self.source()) as reader:
            assert _ids(polled(reader, 100, max_bytes)) == list(range(100))

    def test_max_bytes_bounds_a_poll(self) -> None:
        self.write(range(2000))
        with reading(self.source()) as reader:
            assert len(polled(reader, 2000, 200 * self.row_bytes)) >= 4

    def test_each_poll_with_rows_has_a_bookmark_of_its_own(self) -> None:
        self.write(range(500))
        with reading(self.source()) as reader:
            found = polled(reader, 500, 100 * self.row_bytes)
        assert all(one.bookmark for one in found)
        assert len({one.bookmark for one in found}) == len(found)

    # ------------------------------------------------------------ going on

    def test_going_on_behind_any_bookmark_gives_the_rest(self) -> None:
        self.write(range(200))
        with reading(self.source()) as reader:
            found = polled(reader, 200, 40 * self.row_bytes)
        read = 0
        for one in found[:5]:
            read += len(ids_of(one))
            with reading(self.source(), one.bookmark) as later:
                assert _ids(polled(later, 200 - read)) == list(range(read, 200))

    def test_rows_written_while_nobody_reads_come_and_none_twice(self) -> None:
        self.write(range(50))
        with reading(self.source()) as reader:
            last = polled(reader, 50)[-1]
            reader.forget(last.bookmark)
        self.write(range(50, 80))
        with reading(self.source(), last.bookmark) as later:
            later.forget(last.bookmark)
            assert _ids(polled(later, 30)) == list(range(50, 80))

    def test_what_was_read_and_not_forgotten_comes_again(self) -> None:
        self.write(range(60))
        with reading(self.source()) as reader:
            first = reader_gives(reader, 20 * self.row_bytes)
            reader.forget(first.bookmark)
            polled(reader, 60 - len(ids_of(first)))
        with reading(self.source(), first.bookmark) as later:
            later.forget(first.bookmark)
            assert _ids(polled(later, 60 - len(ids_of(first)))) == list(range(len(ids_of(first)), 60))

    def test_forgetting_twice_does_no_harm(self) -> None:
        self.write(range(20))
        with reading(self.source()) as reader:
            first = reader_gives(reader, 5 * self.row_bytes)
            reader.forget(first.bookmark)
            reader.forget(first.bookmark)
            assert _ids([first, *polled(reader, 20 - len(ids_of(first)))]) == list(range(20))

    # ------------------------------------------------------------ abilities

    def test_rows_that_changed_come_again_if_it_says_so(self) -> None:
        if not self.source().abilities.updates:
            return
        self.write(range(30))
        with reading(self.source()) as reader:
            polled(reader, 30)
            self.write([7, 3])
            assert _ids(polled(reader, 2)) == [7, 3]

    def test_rows_that_are_gone_come_as_such_if_it_says_so(self) -> None:
        if not self.source().abilities.deletes:
            return
        self.write(range(10))
        with reading(self.source()) as reader:
            polled(reader, 10)
            self.delete([4, 2])
            self.write([11])
            found = [row for one in polled(reader, 3) for row in ids_of(one)]
        assert found == [(4, True), (2, True), (11, False)]

    # ------------------------------------------------------------ identity

    def test_the_identity_is_not_of_the_rows(self) -> None:
        self.write(range(3))
        before = self.source().identity()
        self.write(range(3, 6))
        assert self.source().identity() == before

    def test_columns_are_those_of_the_rows_or_unknown(self) -> None:
        self.write([1])
        columns = self.source().columns()
        assert columns is None or (columns["id"].is_integer() and columns["name"] == pl.String)

    # ------------------------------------------------------------ fed

    @pytest.mark.parametrize("fault", ["none", "before", "behind", "forgetting", "polling"])
    def test_fed_through_faults_each_row_is_in_the_log_once(self, tmp_path: Path, fault: str) -> None:
        """Every third step fails: before the append, behind it as if its answer was lost, and elsewhere."""
        for before, rows in ((0, 100), (100, 150)):
            self.write(range(before, rows))
            assert fed(self.source(), tmp_path, rows, fault, 60 * self.row_bytes) == list(range(rows))


def reader_gives(reader: UnboundedReader, max_bytes: int) -> Polled:
    """The first poll with rows."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = reader.poll(max_bytes, time.time())
        if found is not None and found.parts:
            return found
        time.sleep(_AGAIN)
    raise AssertionError(f"no row came within {DEADLINE:g} s")


class CatchingUpConformance(UnboundedSourceConformance):
    """The laws of those that can be read in runs besides (``contracts.unbounded.CatchingUpSource``)."""

    def run_of(self, bookmark: bytes, max_bytes: int = 1 << 20) -> tuple[list[int], bytes]:
        """The ids that one run gives behind *bookmark*, and the bookmark at its end."""
        ids, deadline = list[int](), time.monotonic() + DEADLINE
        with reading(self.source(), bookmark) as reader:
            assert isinstance(reader, CatchingUpReader)
            while not reader.caught_up:
                assert time.monotonic() < deadline, f"{len(ids)} rows, and not at the end"
                one = reader.poll(max_bytes, time.time())
                if one is not None and (one.parts or one.keep):
                    ids, bookmark = ids + _ids([one]), one.bookmark
            later = reader.poll(max_bytes, time.time())
            assert later is None or not later.parts
            assert reader.caught_up, "it stays so"
        return ids, bookmark

    @pytest.mark.parametrize("max_bytes", [1, 1 << 20])
    def test_each_run_gives_what_is_new(self, max_bytes: int) -> None:
        bookmark = b""
        for start, rows in ((0, 40), (40, 0), (40, 1), (41, 30)):
            if rows:
                self.write(range(start, start + rows))
            ids, bookmark = self.run_of(bookmark, max_bytes)
            assert ids == list(range(start, start + rows))

    def test_a_run_of_nothing_ends(self) -> None:
        assert self.run_of(b"") == ([], b"")

    def test_what_comes_behind_its_beginning_does_not_keep_a_run_from_its_end(self) -> None:
        self.write(range(10))
        with reading(self.source()) as reader:
            assert isinstance(reader, CatchingUpReader)
            deadline, id = time.monotonic() + DEADLINE, 10
            while not reader.caught_up:
                assert time.monotonic() < deadline
                reader.poll(1 << 20, time.time())
                self.write([id])
                id += 1
