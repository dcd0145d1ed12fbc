"""Copies of snapshots on disk: whole or none, and of this log and declaration, whatever kills the writer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from streamcore.batch import PartitionId
from streamcore.runtime.state_copies import Copies, Copy
from streamcore.state.operator import State
from streamcore.state.runs import Runs
from streamcore.state.snapshot import Read, Snapshot, SnapshotReader

SOURCE = PartitionId("t.n.log", 3, "cluster/id")


def snapshot(as_of: int, rows: int = 40) -> Snapshot:
    frame = pl.DataFrame({"key": [f"k{as_of}-{i}" for i in range(rows)]})
    return Snapshot(as_of, "made so", {("clicks", 0): Read(7, 5, False)}, State((Runs((frame,)),), 5, 9, 4))


def write(copies: Copies, as_of: int, source: PartitionId = SOURCE) -> None:
    taken = snapshot(as_of)
    writer = copies.write(source, taken)
    assert writer is not None
    for value in taken.records("one", 100):
        writer.add(value)
    writer.finish()
    writer.publish()


def keys(copy: Copy | None) -> Sequence[str]:
    """The keys in *copy*; ValueError when it is not whole."""
    assert copy is not None
    reader, found = SnapshotReader(0), None
    for value in copy.records():
        found = reader.add(value) or found
    assert found is not None
    return [key for frame in found.state.kept[0] for key in frame["key"]]


def usable(copies: Copies, definition: str = "made so", source: PartitionId = SOURCE) -> bool:
    copy = copies.find(source, definition)
    try:
        return copy is not None and bool(keys(copy))
    except ValueError:
        return False


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "copies")


def test_the_newest_one_that_was_published_is_found(copies: Copies) -> None:
    assert copies.find(SOURCE, "made so") is None
    write(copies, 10)
    write(copies, 20)
    unfinished = copies.write(SOURCE, snapshot(30))
    assert unfinished is not None
    found = copies.find(SOURCE, "made so")
    assert found is not None
    assert (found.as_of, found.emitted) == (20, 9)
    assert keys(found) == snapshot(20).state.kept[0][0]["key"].to_list()
    unfinished.drop()
    assert [path.name for path in copies.folder.rglob("*") if path.is_file()] == ["3"]


def test_one_that_ends_at_any_byte_is_none(copies: Copies) -> None:
    write(copies, 10)
    (path,) = copies.folder.rglob("3")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert not usable(copies), end
    path.write_bytes(whole + b"\0")
    assert not usable(copies)
    path.write_bytes(whole)
    assert usable(copies)


def test_one_in_which_any_byte_is_another_is_none(copies: Copies) -> None:
    write(copies, 10)
    (path,) = copies.folder.rglob("3")
    whole = path.read_bytes()
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 0x10
        path.write_bytes(altered)
        assert not usable(copies), at


@pytest.mark.parametrize(
    "other",
    [
        PartitionId("t.n.log", 3, "cluster/made again"),
        PartitionId("t.n.log", 2, "cluster/id"),
        PartitionId("t.m.log", 3, "cluster/id"),
    ],
)
def test_one_of_another_log_is_none(copies: Copies, other: PartitionId) -> None:
    write(copies, 10, other)
    target = copies.folder / SOURCE.topic / str(SOURCE.partition)
    target.parent.mkdir(exist_ok=True)
    (copies.folder / other.topic / str(other.partition)).rename(target)
    assert copies.find(SOURCE, "made so") is None


def test_one_of_another_declaration_is_none(copies: Copies) -> None:
    write(copies, 10)
    assert not usable(copies, "made otherwise")
    assert usable(copies)


def test_only_one_process_writes_a_copy(copies: Copies) -> None:
    first = copies.write(SOURCE, snapshot(10))
    assert first is not None
    assert copies.write(SOURCE, snapshot(11)) is None
    copies.keep_only([SOURCE.topic])  # it is no leftover
    first.finish()
    first.publish()
    assert copies.find(SOURCE, "made so") is not None
    write(copies, 12)


def test_what_is_of_no_use_is_removed(copies: Copies) -> None:
    write(copies, 10)
    write(copies, 10, PartitionId("gone.log", 0, "cluster/id"))
    left = copies.folder / SOURCE.topic / "5.new"
    left.write_bytes(b"half")
    copies.keep_only([SOURCE.topic])
    assert [path.name for path in copies.folder.rglob("*") if path.is_file()] == ["3"]
    copies.remove(SOURCE)
    assert copies.find(SOURCE, "made so") is None


def test_a_disk_that_is_full_costs_the_copy_only(
    copies: Copies, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(copies, 10)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    write(copies, 20)
    assert "No space left" in caplog.text
    found = copies.find(SOURCE, "made so")
    assert found is not None
    assert found.as_of == 10
    assert [path.name for path in copies.folder.rglob("*") if path.is_file()] == ["3"]


@pytest.mark.parametrize(
    ("point", "as_of"),
    [
        ("state_copies.frame_begun:1", None),
        ("state_copies.frame_begun:9", 10),
        ("state_copies.frame_written:10", 10),
        ("state_copies.before_rename:2", 10),
        ("state_copies.after_rename:2", 20),
    ],
)
def test_kill_9_leaves_the_copy_before_or_the_new_one(copies: Copies, point: str, as_of: int | None) -> None:
    code = (
        "from pathlib import Path; from tests.unit.runtime.test_state_copies import *; "
        f"copies = Copies(Path({str(copies.folder)!r})); [write(copies, as_of) for as_of in (10, 20, 30)]"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "STREAMCORE_CRASH_POINT": point}, check=False
    )
    assert killed.returncode == -9
    found = copies.find(SOURCE, "made so")
    assert (found and found.as_of) == as_of
    if found is not None:
        assert keys(found) == snapshot(found.as_of).state.kept[0][0]["key"].to_list()
    write(copies, 40)  # what was left is in nobody's way
    assert usable(copies)
