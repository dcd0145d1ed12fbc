"""Parts of a folder become one file, in order; what can't be one file says so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from streamcore.engines.one_file import OneFile
from streamcore.errors import BadConfig, Permanent
from streamcore.sinks import Csv, Excel, JsonLines, Parquet, SQLite

ROWS = pl.DataFrame({"id": range(6), 'a "name",\nof two lines': ["x", None, "", 'q"', "line\nbreak", "ü"]})


def staged(target: OneFile, frames: list[pl.DataFrame]) -> None:
    """What a sink leaves: parts whose names are in the order of the rows, and what is none."""
    target.parts.mkdir()
    (target.parts / "_seals").mkdir()
    for number, frame in enumerate(frames):
        with (target.parts / f"x-00000-{number:020d}{target.sink.format.suffix}").open("wb") as file:
            target.sink.format.write(frame, file)


def made(sink: Csv | Excel | JsonLines | Parquet, frames: list[pl.DataFrame]) -> Path:
    target = OneFile.of(sink, "writer", "run")
    assert target is not None
    staged(target, frames)
    target.publish(ROWS.schema)
    target.publish(ROWS.schema)  # after a crash it is done again
    target.discard()
    assert [path.name for path in target.path.parent.iterdir()] == [target.path.name]
    return target.path


PARTS = [ROWS[:2], ROWS[2:5], ROWS[5:]]


@pytest.mark.parametrize("parts", [PARTS, [ROWS], []], ids=["many", "one", "none"])
def test_parts_are_joined(tmp_path: Path, parts: list[pl.DataFrame]) -> None:
    rows = pl.concat(parts) if parts else ROWS[:0]
    (tmp_path / "csv").mkdir()
    (tmp_path / "parquet").mkdir()
    (tmp_path / "json").mkdir()
    (tmp_path / "lines").mkdir()
    whole = io.BytesIO()
    Csv("x").format.write(rows, whole)
    assert made(Csv(str(tmp_path / "csv/x.csv")), parts).read_bytes() == whole.getvalue()
    assert pl.read_parquet(made(Parquet(str(tmp_path / "parquet/x.parquet")), parts)).equals(rows)
    assert json.loads(made(JsonLines(str(tmp_path / "json/x.json")), parts).read_text()) == rows.to_dicts()
    lines = made(JsonLines(str(tmp_path / "lines/x.jsonl")), parts).read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows.to_dicts()


def test_one_workbook_holds_what_a_sheet_holds(tmp_path: Path) -> None:
    target = OneFile.of(Excel(str(tmp_path / "x.xlsx")), "writer", "run")
    assert target is not None
    assert target.in_order
    staged(target, PARTS)
    with pytest.raises(Permanent, match=r"do not fit into one workbook.*name a folder"):
        target.publish(ROWS.schema)
    assert not target.path.exists()


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("old")
    target = OneFile.of(Csv(str(tmp_path / "x.csv")), "writer", "run")
    assert target is not None
    staged(target, PARTS)
    blocked = tmp_path / f"{target.parts.name}.tmp"
    blocked.mkdir()
    with pytest.raises(Permanent, match="can't be written"):
        target.publish(ROWS.schema)
    assert (tmp_path / "x.csv").read_text() == "old"


def test_without_its_parts_a_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("old")
    target = OneFile.of(Csv(str(tmp_path / "x.csv")), "writer", "run")
    assert target is not None
    with pytest.raises(Permanent, match="parts of the file are gone"):
        target.publish(ROWS.schema)
    assert (tmp_path / "x.csv").read_text() == "old"


def test_what_is_no_file(tmp_path: Path) -> None:
    folders = [
        Parquet(str(tmp_path / "out")),
        Parquet(str(tmp_path / "x.parquet") + "/"),
        Parquet(str(tmp_path / "x.parquet"), partition_by="id"),
        Parquet("s3://bucket/x.parquet"),
        Csv(str(tmp_path)),
    ]
    assert [OneFile.of(sink, "writer", "run") for sink in folders] == [None] * len(folders)
    assert OneFile.of(SQLite("t", tmp_path / "x.db"), "writer", "run") is None
    with pytest.raises(BadConfig, match="not written compressed"):
        OneFile.of(Csv(str(tmp_path / "x.csv.gz")), "writer", "run")
