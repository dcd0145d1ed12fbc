"""The embedded log: what is read is what was appended, and what a crash or a bad disk leaves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import PartitionId
from streamcore.contracts import Records
from streamcore.errors import Permanent, TopicChanged
from streamcore.transport.embedded_blocks import cut, one_record, to_batch
from streamcore.transport.embedded_segments import HEAD, File, OsFile, SegmentFiles
from streamcore.transport.log import PartitionLog

SOURCE = PartitionId("t", 0, "embedded/1")


def records(*values: bytes | None, start: int = 0) -> pa.RecordBatch:
    return to_batch(
        Records(pa.array(values, pa.binary()), np.arange(start, start + len(values)), headers=(("h", b"x"),))
    )


def on_disk(
    folder: Path, segment_bytes: int = 1 << 20, open_file: Callable[[Path], File] = OsFile
) -> PartitionLog:
    return PartitionLog(
        SOURCE, SegmentFiles(folder, SOURCE, segment_bytes=segment_bytes, open_file=open_file)
    )


def read_all(log: PartitionLog, max_bytes: int = 1 << 20) -> list[bytes | None]:
    found: list[bytes | None] = []
    position = log.first
    while chunk := log.read(position, max_bytes):
        assert chunk.covered == (position, position + len(chunk))
        found += chunk.values()
        position = chunk.end
    assert position == log.end
    return found


@settings(deadline=None)  # a machine may stand still for a moment
@given(
    appends=st.lists(st.lists(st.binary(max_size=40) | st.none(), min_size=1, max_size=20), max_size=8),
    max_bytes=st.integers(1, 2000),
)
def test_reading_in_any_pieces_gives_what_was_appended(
    appends: list[list[bytes | None]], max_bytes: int
) -> None:
    log = PartitionLog(SOURCE)
    for values in appends:
        before = log.end
        assert log.append(records(*values)) == before
    assert read_all(log, max_bytes) == [v for values in appends for v in values]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | st.none(), max_size=50), st.integers(1, 500))
def test_cutting_into_blocks_keeps_all_rows_and_the_size(values: list[bytes | None], size: int) -> None:
    blocks = list(cut(records(*values), size))
    assert [v for b in blocks for v in b.column("value").to_pylist()] == values
    assert all(b.num_rows for b in blocks)


def test_keys_times_and_headers_come_back() -> None:
    log = PartitionLog(SOURCE)
    columns = Records(
        pa.array([b"a", None], pa.binary()),
        np.array([5, 6]),
        keys=pa.array([None, b"k"], pa.binary()),
        headers=(("same", b"s"), ("own", pa.array([b"1", b"2"], pa.binary()))),
    )
    log.append(to_batch(columns))
    log.append(one_record(b"k3", b"c", 7, [("x", b"y")]))
    log.append(one_record(None, b"d", 8, []))
    chunk = log.read(0, 1 << 20)
    assert chunk is not None
    assert chunk.source == SOURCE
    assert chunk.keys() == [None, b"k", b"k3", None]
    assert chunk.values() == [b"a", None, b"c", b"d"]
    stamps = chunk.timestamps()
    assert stamps is not None
    assert stamps.tolist() == [5, 6, 7, 8]
    assert [chunk.headers(o) for o in range(4)] == [
        (("same", b"s"), ("own", b"1")),
        (("same", b"s"), ("own", b"2")),
        (("x", b"y"),),
        (),
    ]
    assert chunk.original(1).data is None


def test_a_chunk_stops_at_the_end_that_is_asked_for() -> None:
    log = PartitionLog(SOURCE)
    log.append(records(b"0", b"1", b"2"))
    log.append(records(b"3", b"4"))
    chunk = log.read(1, 1 << 20, end=4)
    assert chunk is not None
    assert chunk.values() == [b"1", b"2", b"3"]
    assert log.read(5, 1) is None


def test_a_big_block_is_read_in_parts_near_the_limit() -> None:
    log = PartitionLog(SOURCE)
    log.append(records(*[bytes(1000)] * 100))
    chunk = log.read(0, 10_000)
    assert chunk is not None
    assert 5 <= len(chunk) <= 11


def test_dropping_forgets_whole_blocks_and_their_positions() -> None:
    log = PartitionLog(SOURCE)
    for i in range(3):
        log.append(records(b"a%d" % i, b"b%d" % i))
    log.drop(3)
    assert log.first == 2
    assert read_all(log) == [b"a1", b"b1", b"a2", b"b2"]
    with pytest.raises(TopicChanged, match="2 to 6"):
        log.read(1, 100)
    log.drop(6)
    assert (log.first, log.end, log.nbytes) == (6, 6, 0)
    log.append(records(b"z"))
    assert read_all(log) == [b"z"]


def test_a_log_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    log = on_disk(tmp_path, segment_bytes=1500)
    written = [b"%d" % i for i in range(12)]
    for value in written:
        log.append(records(value))
    log.sync()
    log.close()
    assert len(list(tmp_path.glob("*.log"))) > 2
    again = on_disk(tmp_path, segment_bytes=1500)
    assert read_all(again) == written
    assert again.append(records(b"more")) == 12
    assert read_all(again)[-1] == b"more"
    again.close()


def test_segments_below_what_is_needed_are_deleted(tmp_path: Path) -> None:
    log = on_disk(tmp_path, segment_bytes=700)
    for i in range(10):
        log.append(records(b"%d" % i))
    log.drop(7)
    assert 0 < log.first <= 7
    kept = read_all(log)
    assert kept == [b"%d" % i for i in range(log.first, 10)]
    log.close()
    again = on_disk(tmp_path, segment_bytes=700)
    assert read_all(again) == kept
    again.close()


def _small_log(folder: Path) -> tuple[Path, int, list[int]]:
    """Three synced and two unsynced one-row blocks; the file, its durable size, the ends of its blocks."""
    log = on_disk(folder)
    (path, ends) = (folder / f"{0:020d}.log", [])
    for i in range(5):
        log.append(records(b"value-%d" % i))
        ends.append(path.stat().st_size)
        if i == 2:
            log.sync()
    log.close()
    return path, ends[2], ends


def test_cut_at_every_byte_leaves_whole_blocks_and_all_that_was_synced(tmp_path: Path) -> None:
    path, durable, ends = _small_log(tmp_path / "a")
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        if size < durable:
            with pytest.raises(Permanent, match="corrupt"):
                on_disk(path.parent)
            continue
        log = on_disk(path.parent)
        blocks = sum(end <= size for end in ends)
        assert read_all(log) == [b"value-%d" % i for i in range(blocks)]
        assert path.stat().st_size == ends[blocks - 1]
        assert log.append(records(b"next")) == blocks
        assert read_all(log)[-1] == b"next"
        log.close()


def test_zeros_after_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    path, _, ends = _small_log(tmp_path / "a")
    path.write_bytes(path.read_bytes()[: ends[3]] + bytes(500))
    log = on_disk(path.parent)
    assert len(read_all(log)) == 4
    log.close()


def test_no_flipped_bit_loses_synced_records_silently(tmp_path: Path) -> None:
    path, durable, _ = _small_log(tmp_path / "a")
    whole = path.read_bytes()[:durable]
    expected = [b"value-%d" % i for i in range(3)]
    refused = 0
    for at in range(durable):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                log = on_disk(path.parent)
            except Permanent:
                refused += 1
                continue
            assert read_all(log) == expected
            log.close()
    assert refused >= 2 * (durable - HEAD)


def _damaged_first_block(folder: Path, synced_after: int) -> None:
    """Three blocks, the first one damaged; an fsync behind so many, the mark of which was lost."""
    log = on_disk(folder)
    for i in range(3):
        log.append(records(b"value-%d" % i))
        if i + 1 == synced_after:
            log.sync()
    log.close()
    (path,) = folder.glob("*.log")
    data = bytearray(path.read_bytes())
    data[8:HEAD] = bytes(HEAD - 8)
    data[HEAD + 100] ^= 1
    path.write_bytes(data)


def test_damage_of_what_a_later_block_says_was_durable_is_refused(tmp_path: Path) -> None:
    _damaged_first_block(tmp_path, synced_after=1)
    with pytest.raises(Permanent, match="offset 0, is damaged"):
        on_disk(tmp_path)


def test_a_power_loss_may_leave_a_later_block_of_what_was_not_durable(tmp_path: Path) -> None:
    _damaged_first_block(tmp_path, synced_after=0)
    log = on_disk(tmp_path)
    assert (log.end, read_all(log)) == (0, [])
    log.close()


def test_a_torn_tail_is_cut_off_durably(tmp_path: Path) -> None:
    """What was cut off must not come back behind other records."""
    path, _, _ = _small_log(tmp_path / "a")
    path.write_bytes(path.read_bytes() + b"torn")
    done: list[str] = []

    class Noting(OsFile):
        def truncate(self, size: int) -> None:
            super().truncate(size)
            done.append("truncate")

        def sync(self) -> None:
            super().sync()
            done.append("sync")

    on_disk(path.parent, open_file=Noting).close()
    assert done[:2] == ["truncate", "sync"]


def test_bytes_that_rot_under_an_open_log_are_refused_when_read(tmp_path: Path) -> None:
    path, _, _ = _small_log(tmp_path / "a")
    log = on_disk(path.parent)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(Permanent, match="offset 4, is damaged"):
        read_all(log)
    log.close()


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    log = on_disk(tmp_path, segment_bytes=700)
    for i in range(6):
        log.append(records(b"%d" % i))
    log.close()
    sorted(tmp_path.glob("*.log"))[1].unlink()
    with pytest.raises(Permanent, match="the segment before it ends at"):
        on_disk(tmp_path, segment_bytes=700)


def test_a_frame_of_another_topic_is_no_record(tmp_path: Path) -> None:
    path, _, _ = _small_log(tmp_path / "a")
    other = PartitionId("t", 0, "embedded/2")
    with pytest.raises(Permanent, match="corrupt"):
        PartitionLog(other, SegmentFiles(path.parent, other))


class FailingFile(OsFile):
    """A file on a disk with *room* bytes left, or whose fsync fails."""

    room = 1 << 30
    fsync_fails = False

    def write(self, data: bytes | memoryview, at: int) -> None:
        fits = max(0, min(len(data), type(self).room - at))
        super().write(memoryview(data)[:fits], at)
        if fits < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self) -> None:
        if type(self).fsync_fails:
            raise OSError(errno.EIO, "Input/output error")
        super().sync()


def test_a_full_disk_refuses_the_append_at_any_byte_and_keeps_the_rest(tmp_path: Path) -> None:
    block = len(records(b"value-0").serialize()) + 24
    for room in range(HEAD + block, HEAD + 2 * block):

        class Small(FailingFile):
            pass

        folder = tmp_path / str(room)
        log = on_disk(folder, open_file=Small)
        log.append(records(b"value-0"))
        Small.room = room
        with pytest.raises(Permanent, match=r"No space left.*free space"):
            log.append(records(b"value-1"))
        assert read_all(log) == [b"value-0"]
        log.sync()
        Small.room = 1 << 30
        assert log.append(records(b"value-2")) == 1
        log.sync()
        log.close()
        again = on_disk(folder)
        assert read_all(again) == [b"value-0", b"value-2"]
        again.close()


def test_after_a_failed_fsync_nothing_is_written_or_called_durable(tmp_path: Path) -> None:
    class Bad(FailingFile):
        pass

    log = on_disk(tmp_path, open_file=Bad)
    log.append(records(b"a"))
    log.sync()
    log.append(records(b"b"))
    Bad.fsync_fails = True
    with pytest.raises(Permanent, match="fsync failed"):
        log.sync()
    Bad.fsync_fails = False
    with pytest.raises(Permanent, match="can't be written"):
        log.sync()
    with pytest.raises(Permanent, match="can't be written"):
        log.append(records(b"c"))
    log.close()
    again = on_disk(tmp_path)
    assert read_all(again)[:1] == [b"a"]
    again.close()


def test_durable_is_what_was_synced_or_recovered(tmp_path: Path) -> None:
    log = on_disk(tmp_path)
    log.append(records(b"a", b"b"))
    assert (log.durable, log.end) == (0, 2)
    log.sync()
    log.append(records(b"c"))
    assert (log.durable, log.end) == (2, 3)
    log.close()
    assert on_disk(tmp_path).durable == 3
    memory = PartitionLog(SOURCE)
    memory.append(records(b"a"))
    assert memory.durable == 1
