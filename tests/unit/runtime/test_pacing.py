"""Rows leave when their event time is reached on a clock that runs at the given speed."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Chunk, FrameChunk, PartitionId, Rejects
from streamcore.contracts import SplitReader
from streamcore.formats import decoder_for, format_named
from streamcore.runtime.pacing import TICK, PacedSplit, Pacer, event_seconds
from streamcore.schema import StreamSchema

SOURCE = PartitionId("events", 0, "test")
SCHEMA = StreamSchema.from_columns({"at": "datetime", "id": "int64"})
START = dt.datetime(2020, 1, 1)


class Clock:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= TICK
        self.sleeps.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Rows:
    """A split of rows at *seconds* after START (None: refused, the time is missing), so many a chunk."""

    seconds: tuple[float | None, ...]
    per_chunk: int = 1000
    name = "rows"
    bookmark = b""

    @property
    def size(self) -> int:
        return len(self.seconds)

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        assert position == 0, "only the ends of whole chunks may be opened"
        return _Reader(self, source)


class _Reader:
    def __init__(self, rows: Rows, source: PartitionId) -> None:
        self._rows, self._source, self._at = rows, source, 0

    def read(self, max_bytes: int) -> Chunk | None:
        seconds = self._rows.seconds[self._at : self._at + self._rows.per_chunk]
        if not seconds:
            return None
        first, self._at = self._at, self._at + len(seconds)
        good = [(i, s) for i, s in enumerate(seconds, first) if s is not None]
        bad = [i for i, s in enumerate(seconds, first) if s is None]
        frame = pl.DataFrame(
            {"at": [START + dt.timedelta(seconds=s) for _, s in good], "id": [i for i, _ in good]},
            schema={"at": pl.Datetime("us"), "id": pl.Int64},
        )
        offsets = np.array([i for i, _ in good], np.int64)
        refused = Rejects.of(_identities(bad), "read", "ragged", "no time")
        return FrameChunk(self._source, offsets, frame, first=first, end=self._at, rejects=refused)

    def close(self) -> None:
        pass


def _identities(offsets: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"_offset": offsets, "_sub": [0] * len(offsets)}, schema={"_offset": pl.Int64, "_sub": pl.UInt32}
    )


def paced(rows: Rows, pacer: Pacer) -> PacedSplit:
    return PacedSplit(rows, decoder_for(format_named("json"), SCHEMA), "at", pacer)


def positions(chunk: Chunk) -> list[int]:
    return sorted([*chunk.offsets().tolist(), *chunk.rejects.frame["_offset"].to_list()])


def read(rows: Rows, speed: float, position: int = 0) -> list[tuple[float, list[int]]]:
    """When which positions left."""
    clock = Clock()
    reader = paced(rows, Pacer(speed, clock, clock.sleep)).open(SOURCE, position)
    found = []
    while (chunk := reader.read(1 << 20)) is not None:
        found.append((clock.now, positions(chunk)))
    reader.close()
    return found


def test_rows_leave_at_their_time() -> None:
    assert read(Rows((0, 10, 10, 25)), 10) == [(0, [0]), (1, [1, 2]), (pytest.approx(2.5), [3])]


def test_a_row_out_of_order_leaves_with_the_one_before_it() -> None:
    assert read(Rows((0, 10, 3, 20)), 10) == [(0, [0]), (1, [1, 2]), (2, [3])]


def test_order_holds_across_chunks() -> None:
    assert read(Rows((0, 10, 3, 20), per_chunk=2), 10) == [(0, [0]), (1, [1]), (1, [2]), (2, [3])]


def test_refused_records_leave_with_their_neighbours() -> None:
    assert read(Rows((None, 0, None, 10, None)), 10) == [(0, [0, 1, 2]), (1, [3, 4])]


def test_a_chunk_of_refused_records_does_not_wait() -> None:
    assert read(Rows((0, None, None, 5), per_chunk=1), 1)[1:3] == [(0, [1]), (0, [2])]


def test_going_on_skips_at_once_and_starts_the_clock_at_the_first_row_left() -> None:
    assert read(Rows((0, 1000, 2000, 2010), per_chunk=3), 10, position=2) == [(0, [2]), (1, [3])]


def test_close_times_leave_together_a_tick_apart() -> None:
    found = read(Rows(tuple(i / 1000 for i in range(1000))), 1)
    gaps = np.diff([when for when, _ in found])
    assert gaps.min() == pytest.approx(TICK)
    assert len(found) < 30


def test_splits_share_one_clock_that_starts_at_the_earliest() -> None:
    clock = Clock()
    pacer = Pacer(10, clock, clock.sleep)
    later, earlier = (
        paced(Rows((100, 120)), pacer).open(SOURCE, 0),
        paced(Rows((0, 50)), pacer).open(SOURCE, 0),
    )
    when = []
    for reader in (later, earlier, earlier, later):
        reader.read(1)
        when.append(clock.now)
    assert when == [0, 0, 5, pytest.approx(12)], (
        "the later split waits for its time on the earlier one's clock"
    )


def test_halt_ends_a_wait_of_another_thread() -> None:
    pacer = Pacer(1)
    reader = paced(Rows((0, 1e6)), pacer).open(SOURCE, 0)
    reader.read(1)
    thread = threading.Thread(target=reader.read, args=(1,))
    thread.start()
    pacer.halt()
    thread.join(5)
    assert not thread.is_alive()


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.none() | st.integers(0, 50), max_size=30), st.integers(1, 7), st.floats(0.5, 100))
def test_every_position_leaves_once_in_order_and_never_early(
    seconds: list[int | None], per_chunk: int, speed: float
) -> None:
    found = read(Rows(tuple(seconds), per_chunk), speed)
    assert [at for _, ats in found for at in ats] == list(range(len(seconds)))
    known = [s for s in seconds if s is not None]
    for when, ats in found:
        for at in ats:
            if (own := seconds[at]) is not None:
                assert when >= (own - known[0]) / speed - 1e-6


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([START, None], dtype=pl.Datetime("ns")),
        pl.Series([START, None], dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
        pl.Series([START.date(), None]),
        pl.Series([1_577_836_800_000, None]),
    ],
)
def test_event_seconds_of_every_type_of_time(times: pl.Series) -> None:
    assert event_seconds(times).tolist() == pytest.approx([1_577_836_800.0, np.nan], nan_ok=True)
