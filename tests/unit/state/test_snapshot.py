"""Snapshots in records: read as they were written, whatever lies between, and refused in words."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.errors import Permanent
from streamcore.state.operator import State
from streamcore.state.snapshot import Read, Snapshot, SnapshotReader, is_snapshot, reads_in

FRAME = pl.DataFrame({"key": [f"k{i}" for i in range(50)], "_hash": range(50)})
READS = {("clicks", 0): Read(7, 5, False), ("clicks", 1): Read(None, -(1 << 63), True)}
SNAPSHOT = Snapshot(9, "made so", READS, State(((FRAME, FRAME[:3]), (), (FRAME[:1],)), 5, 3, 4), 6)


def records(id: str = "a", most_bytes: int = 20) -> list[bytes]:
    return list(SNAPSHOT.records(id, most_bytes))


def test_a_snapshot_is_read_as_it_was_written_without_hashes() -> None:
    reader = SnapshotReader(9)
    *first, last = records()
    assert len(first) > 5
    assert all(map(is_snapshot, first))
    assert [reader.add(value) for value in first] == [None] * len(first)
    found = reader.add(last)
    assert found is not None
    assert (found.as_of, found.definition, found.reads, found.newest) == (9, "made so", READS, 6)
    assert (found.state.watermark, found.state.emitted, found.state.arrived) == (5, 3, 4)
    kept = [[frame.to_dict(as_series=False) for frame in runs] for runs in found.state.kept]
    expected = [[FRAME, FRAME[:3]], [], [FRAME[:1]]]
    assert kept == [[frame.drop("_hash").to_dict(as_series=False) for frame in runs] for runs in expected]


def test_parts_of_others_and_of_older_ones_do_not_disturb() -> None:
    reader = SnapshotReader(9)
    assert SnapshotReader(10).add(records(most_bytes=1 << 20)[0]) is None
    mixed = [value for pair in zip(records("a")[:-1], records("b"), strict=False) for value in pair]
    assert not any(reader.add(value) for value in mixed)
    assert reader.add(records("a")[-1]) is not None


def test_records_may_come_twice_but_none_may_be_missing() -> None:
    twice = [value for value in records() for _ in range(2)]
    reader = SnapshotReader(9)
    assert sum(reader.add(value) is not None for value in twice) == 1
    for missing in (0, 2, len(records()) - 1):
        torn = SnapshotReader(9)
        left = [value for number, value in enumerate(records()) if number != missing]
        assert not any(torn.add(value) for value in left)


def test_only_the_first_record_says_how_far_partitions_are() -> None:
    first, second, *_ = records()
    assert reads_in(first) == READS
    assert reads_in(second) == {}
    assert not is_snapshot(None)
    assert not is_snapshot(b'[["clicks", 0], 0, 1, 2, false, "d", false]\n')


@pytest.mark.parametrize("broken", [b'["snapshot",\n', records()[1][:-150]])
def test_what_can_not_be_read_is_refused_in_words(broken: bytes) -> None:
    reader = SnapshotReader(0)
    with pytest.raises(Permanent, match="can't be read"):
        _read(reader, [records()[0], broken, *records()[2:]])


def _read(reader: SnapshotReader, values: list[bytes]) -> None:
    for value in values:
        reader.add(value)
