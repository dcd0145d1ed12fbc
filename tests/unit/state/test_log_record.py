"""Records of a log of state: what is written is read, what is none is refused, rows are cut by position."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.batch import PartitionId, Range, TimedBatch, nothing_at
from streamcore.errors import Permanent
from streamcore.event_time import END
from streamcore.state.log_record import Entry, decode, encode, entries_of, pieces_of

ROWS = pl.DataFrame(
    {"user": ["ä|b", None, "c"], "at": [1, 2, 3], "_offset": pl.Series([4, 4, 6], dtype=pl.Int64)}
)


def entry(rows: pl.DataFrame | None = ROWS, *, idle: bool = False) -> Entry:
    return Entry(("clicks", 1), 3, 8, -(1 << 63), idle, "definition", rows)


@pytest.mark.parametrize("idle", [False, True])
def test_an_entry_is_read_as_it_was_written(idle: bool) -> None:
    found = decode(encode(entry(idle=idle)))
    assert found._replace(rows=None) == entry(None, idle=idle)
    assert found.rows is not None
    assert found.rows.equals(ROWS, null_equal=True)


def test_an_entry_without_rows_and_a_head_have_none() -> None:
    assert decode(encode(entry(None))) == entry(None)
    assert decode(encode(entry()), heads_only=True) == entry(None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\n",
        b"no json\n",
        b"{}\n",
        b"7\n",
        b"[1, 2]\n",
        b'[["t"], 0, 1, 2, false, "d", false]\n',
        b'[[], 0, 1, 2, false, "d", false]\n',
        encode(entry())[:-150],
        encode(entry(None)) + b"no arrow",
    ],
)
def test_what_is_no_entry_is_refused_in_words(value: bytes | None) -> None:
    with pytest.raises(Permanent, match="can't be read"):
        decode(value)


@pytest.mark.parametrize(("position", "offsets"), [(0, [4, 4, 6]), (3, [4, 4, 6]), (4, [4, 4, 6]), (5, [6]),
                                                   (7, []), (8, None), (9, None)])  # fmt: skip
def test_rows_behind_a_position(position: int, offsets: list[int] | None) -> None:
    rows = entry().after(position)
    assert (None if rows is None else rows["_offset"].to_list()) == offsets
    assert entry(None).after(position) is None


@pytest.mark.parametrize("most", [1, 50, 200, 1 << 20])
def test_pieces_share_no_position_and_lose_no_row(most: int) -> None:
    frame = pl.DataFrame({"_offset": [0, 0, 0, 1, 5, 5, 6, 9], "x": ["y" * 20] * 8})
    pieces = pieces_of(frame, most)
    assert pl.concat(pieces).equals(frame)
    spans = [set(piece["_offset"]) for piece in pieces]
    assert all(spans)
    assert sum(map(len, spans)) == len(set().union(*spans))


def test_a_record_larger_than_the_limit_stays_whole() -> None:
    frame = pl.DataFrame({"_offset": [7] * 9, "x": ["y" * 99] * 9})
    assert [piece.height for piece in pieces_of(frame, 10)] == [9]


def test_a_piece_that_is_not_the_last_says_so() -> None:
    piece = entry()._replace(more=True)
    assert decode(encode(piece), heads_only=True).more
    assert not decode(encode(entry())).more


@pytest.mark.parametrize("rows", [ROWS, ROWS.clear()])
def test_the_end_of_a_stream_is_said_behind_how_far_its_times_came(rows: pl.DataFrame) -> None:
    source = PartitionId("clicks", 1, "id")
    batch = TimedBatch(rows, {source: Range(3, 8)}, nothing_at(source, 8), END, newest=50)
    *whole, last = entries_of(batch, "d")
    assert [(entry.start, entry.end, entry.watermark) for entry in whole] == [(3, 8, 50)]
    assert (whole[0].rows is None) == (not rows.height)
    assert last == Entry(("clicks", 1), 8, 8, END, False, "d", None)
    told = TimedBatch(rows, {source: Range(3, 8)}, nothing_at(source, 8), END)
    assert [entry.watermark for entry in entries_of(told, "d")] == [END]
