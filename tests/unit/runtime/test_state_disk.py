"""State on disk: the same rows of every type, from files that nobody has to remove."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from streamcore.errors import Permanent
from streamcore.runtime.state_disk import Disk

COLUMNS = {
    "int": pl.Series([1, None, -3], dtype=pl.Int64),
    "byte": pl.Series([1, None, 255], dtype=pl.UInt8),
    "float": pl.Series([1.5, float("nan"), None]),
    "bool": pl.Series([True, None, False]),
    "text": pl.Series(["", None, "longer than what a view has in itself: äöü"]),
    "bytes": pl.Series([b"", None, b"\0" * 40]),
    "sum": pl.Series([1, None, -(2**100)], dtype=pl.Int128),
    "wide": pl.Series([1, None, 2**100], dtype=pl.UInt128),
    "decimal": pl.Series([Decimal("1.25"), None, Decimal("-3")], dtype=pl.Decimal(38, 2)),
    "time": pl.Series([dt.datetime(2026, 1, 1), None, dt.datetime(1, 1, 1)]).dt.replace_time_zone("UTC"),
    "date": pl.Series([dt.date(2026, 1, 1), None, dt.date(1, 1, 1)]),
    "clock": pl.Series([dt.time(1), None, dt.time(23, 59)]),
    "duration": pl.Series([dt.timedelta(1), None, dt.timedelta(0)]),
    "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["a", "b", "c"])),
    "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "list": pl.Series([[1, None], None, []], dtype=pl.List(pl.Int64)),
    "texts": pl.Series([["a", None], None, ["longer than what a view has in itself"]]),
    "sums": pl.Series([[1, 2**100], None, []], dtype=pl.List(pl.Int128)),
    "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    "struct": pl.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
    "null": pl.Series([None, None, None]),
}
COPIED = {"wide", "enum", "category", "null"}
"""Of which polars makes its own in memory when it reads them."""


def files_of_this_process(folder: Path) -> list[str]:
    """Mapped files of *folder*, which have no name any more."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_comes_back_as_it_was(name, tmp_path):
    frame = COLUMNS[name].alias("x").to_frame()
    for rows in (frame, frame[1:], pl.concat([frame, frame[2:]]), frame[np.array([2, 2, 0])], frame[:1]):
        found = Disk(tmp_path, 0).put(rows, 10)
        assert found.schema == rows.schema
        assert found.equals(rows)


def test_all_types_at_once(tmp_path):
    frame = pl.DataFrame(COLUMNS)
    assert Disk(tmp_path, 0).put(frame, 10).equals(frame)


FLAT = [name for name, column in COLUMNS.items() if not column.dtype.is_nested() and name not in COPIED]


def test_buffers_are_those_of_the_file_and_not_copies(tmp_path):
    frame = pl.DataFrame({name: COLUMNS[name] for name in FLAT})
    found = Disk(tmp_path, 0).put(frame, 10)
    ranges = [line.split()[0].split("-") for line in files_of_this_process(tmp_path)]
    ((low, high),) = [(int(low, 16), int(high, 16)) for low, high in ranges]
    stored = found.with_columns(found["sum"].reinterpret(dtype=pl.Decimal(38, 0)))
    for name, column in zip(FLAT, stored.to_arrow(compat_level=pl.CompatLevel.newest()).columns, strict=True):
        values = column.chunk(0).buffers()[1]
        assert low <= values.address < high, name


def test_files_have_no_names_and_go_with_the_rows(tmp_path):
    found = Disk(tmp_path, 0).put(pl.DataFrame({"x": np.arange(1_000)}), 10)
    part = found[500:]
    assert os.listdir(tmp_path) == []
    assert files_of_this_process(tmp_path)
    del found
    assert part["x"][0] == 500
    del part
    assert files_of_this_process(tmp_path) == []


def test_numbers_that_arrow_has_no_type_for_stay_in_memory(tmp_path):
    frame = pl.DataFrame({"x": pl.Series([2**126, 10**38], dtype=pl.Int128)})
    assert Disk(tmp_path, 0).put(frame, 10) is frame


def test_a_killed_process_leaves_nothing(tmp_path):
    code = f"""if True:
        import os, signal
        from pathlib import Path
        import polars as pl
        from streamcore.runtime.state_disk import Disk
        kept = Disk(Path({str(tmp_path)!r}), 0).put(pl.DataFrame({{"x": range(100_000)}}), 1)
        assert any({str(tmp_path)!r} in line for line in open("/proc/self/maps"))
        os.kill(os.getpid(), signal.SIGKILL)"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_small_runs_stay_in_memory(tmp_path):
    frame = pl.DataFrame({"x": [1]})
    disk = Disk(tmp_path, 1_000)
    assert disk.put(frame, 500) is frame
    assert disk.put(frame, 501) is not frame


def test_pages_of_files_are_let_go_of_when_there_are_too_many(tmp_path):
    def resident() -> int:
        told = Path("/proc/self/smaps").read_text()
        parts = re.split(r"^(?=[0-9a-f]+-)", told, flags=re.MULTILINE)
        kb = (re.search(r"Rss: +([0-9]+)", part) for part in parts if str(tmp_path) in part)
        return sum(int(found[1]) for found in kb if found) << 10

    disk = Disk(tmp_path, 0, pages=1 << 40)
    found = disk.put(pl.DataFrame({"x": np.arange(1 << 20)}), 10)
    assert found["x"].sum()
    disk.trim()
    assert resident() >= 8 << 20
    replace(disk, pages=-(1 << 30)).trim()  # what libraries have is more than that
    assert resident() == 0
    assert found["x"].max() == (1 << 20) - 1


def test_a_folder_that_cannot_be_written_says_so_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match="larger than its memory") as raised:
        Disk(tmp_path / "file", 0).put(pl.DataFrame({"x": [1]}), 10)
    assert "state.memory_mb" in str(raised.value)


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamcore.runtime.state_disk._written", full)
    with pytest.raises(Permanent, match="No space left"):
        Disk(tmp_path, 0).put(pl.DataFrame({"x": [1]}), 10)
