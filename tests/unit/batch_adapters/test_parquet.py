"""Texts of few different values are read by their dictionaries: the same rows, from any position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_adapters.catalogue import open_source
from batch_adapters.parquet import ParquetReader, ParquetSplit
from streamcore.batch import OFFSET, FrameChunk, PartitionId

ROWS, GROUP = 9_000, 3_000
SOURCE = PartitionId("x", 0, "x")


@pytest.fixture
def written(tmp_path: Path) -> pa.Table:
    """A table in tmp_path/x.parquet: each group has its own values, the last has no nulls."""
    at = np.arange(ROWS)
    few = [None if n % 7 == 0 and n < 2 * GROUP else f"group {n // GROUP}, {n % 5}" for n in at]
    table = pa.table(
        {
            "few": few,
            "id": at,
            "many": [f"text {n}" for n in at],
            "a.b": few,
            "inside": [{"few": text, "n": 1} for text in few],
            "several": [[text, "x"] for text in few],
            "numbers": pa.array(at % 3).dictionary_encode(),
            "empty": pa.array([None] * ROWS, pa.string()),
            "long": pa.array(["x" * 300 + str(n % 3) for n in at]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=GROUP)
    return table


def readers(path: Path, position: int, splits: int = 1) -> list[ParquetReader]:
    found = []
    for split in open_source(path).splits(splits):
        assert isinstance(split, ParquetSplit)
        found.append(split.open(SOURCE, position))
    return found


def chunks(reader: ParquetReader, max_bytes: int) -> list[FrameChunk]:
    found = []
    while (chunk := reader.read(max_bytes)) is not None:
        found.append(chunk)
    reader.close()
    return found


def test_only_texts_that_a_small_dictionary_holds_are_read_by_it(written: pa.Table, tmp_path: Path) -> None:
    (split,) = open_source(tmp_path / "x.parquet").splits(1)
    assert isinstance(split, ParquetSplit)
    assert {group.repeating for group in split.groups} == {frozenset({"few", "a.b", "empty", "long"})}


@pytest.mark.parametrize("max_bytes", [1, 10_000, 1 << 20])
@pytest.mark.parametrize("position", [0, 1, GROUP - 1, GROUP, 2 * GROUP + 3])
def test_the_rows_are_those_that_were_written(
    written: pa.Table, tmp_path: Path, position: int, max_bytes: int
) -> None:
    if max_bytes == 1:
        position = max(position, ROWS - 50)
    (reader,) = readers(tmp_path / "x.parquet", position)
    found = pl.concat(chunk.frame for chunk in chunks(reader, max_bytes))
    wanted = pl.from_arrow(written)
    assert isinstance(wanted, pl.DataFrame)
    assert found.equals(wanted.with_columns(pl.col("numbers").cast(pl.Int64))[position:])
    assert found.schema == open_source(tmp_path / "x.parquet").columns()


def test_a_chunk_counts_the_texts_and_not_their_places(written: pa.Table, tmp_path: Path) -> None:
    (reader,) = readers(tmp_path / "x.parquet", 0)
    sizes = [len(chunk) for chunk in chunks(reader, 1 << 20)]
    assert max(sizes) < (1 << 20) / 300
    assert sum(sizes) == ROWS


def test_each_split_has_the_dictionaries_of_its_groups(tmp_path: Path) -> None:
    few, many = ["a"] * GROUP, [f"text {n}" for n in range(GROUP)]
    pq.write_table(pa.table({"a": few + many}), tmp_path / "x.parquet", row_group_size=GROUP)
    both = [chunks(reader, 1 << 20) for reader in readers(tmp_path / "x.parquet", 0, splits=2)]
    assert [[chunk.frame["a"].to_list() for chunk in found] for found in both] == [[few], [many]]
    (one,) = readers(tmp_path / "x.parquet", 0)
    assert pl.concat(chunk.frame for chunk in chunks(one, 1 << 20))["a"].to_list() == few + many


def test_a_broken_text_in_a_dictionary_is_refused_where_it_is_meant_and_nowhere_else(tmp_path: Path) -> None:
    texts = [b"fine"] * GROUP
    texts[5] = b"\xff\xfe"
    raw = pa.array(texts, pa.binary())
    text = pa.StringArray.from_buffers(GROUP, *raw.buffers()[1:], raw.buffers()[0])
    pq.write_table(pa.table({"id": range(GROUP), "a": text}), tmp_path / "x.parquet")
    (reader,) = readers(tmp_path / "x.parquet", 0)
    assert "a" in reader._split.groups[0].repeating
    found = chunks(reader, 10_000)
    assert [len(chunk.rejects) for chunk in found] == [1] + [0] * (len(found) - 1)
    assert found[0].rejects.frame[OFFSET].to_list() == [5]
    left = pl.concat(chunk.frame for chunk in found)
    assert left["id"].to_list() == [n for n in range(GROUP) if n != 5]
    assert set(left["a"]) == {"fine"}
