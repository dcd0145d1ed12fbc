"""Targets of the file sinks for the conformance suite, read as a user would read them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
from python_calamine import load_workbook

from streamcore.batch import PartitionId
from streamcore.contracts import Sink
from streamcore.testing.sink_world import COLUMNS

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # an fsync costs nothing there
Reader = Callable[[str], pl.LazyFrame]


class FolderTarget:
    """A folder; *make* gives the sink for it, *reader* a frame for the pattern of its visible files."""

    def __init__(self, make: Callable[[str], Sink], pattern: str, reader: Reader) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="streamcore-sink-", dir=MEMORY))
        self.sink = make(str(self.folder / "out"))
        self._pattern, self._reader = pattern, reader

    async def start(self) -> None:
        """The sink makes its folder itself."""

    async def rows(self) -> pl.DataFrame:
        if not list((self.folder / "out").glob(self._pattern)):
            return pl.DataFrame(schema=COLUMNS)
        return self._reader(str(self.folder / "out" / self._pattern)).select(COLUMNS.names()).collect()

    async def positions(self) -> Mapping[PartitionId, int]:
        found = {}
        for seals in (self.folder / "out" / "_seals").glob("*/*"):
            last = max(path for path in seals.iterdir() if not path.name.startswith("."))
            seal = json.loads(last.read_text())
            found[PartitionId(seal["topic"], seal["partition"], seal["topic_id"])] = seal["end"]
        return found

    async def close(self) -> None:
        shutil.rmtree(self.folder)


def read_excel(pattern: str) -> pl.LazyFrame:
    """Cell by cell, by calamine; what is empty is null."""
    folder, _, rest = pattern.partition("**/")
    frames = []
    for path in Path(folder).glob(f"**/{rest}"):
        header, *rows = load_workbook(path).get_sheet_by_index(0).to_python()
        assert header == COLUMNS.names()
        values = [[None if cell == "" else cell for cell in row] for row in rows]
        frames.append(
            pl.DataFrame(values, schema=["id", "name", "value"], orient="row", infer_schema_length=None)
        )
    return pl.concat([frame.cast(dict(COLUMNS)) for frame in frames]).lazy()


def read_parquet(pattern: str) -> pl.LazyFrame:
    return pl.scan_parquet(pattern, hive_partitioning=False)


def read_hive_parquet(pattern: str) -> pl.LazyFrame:
    return pl.scan_parquet(pattern, hive_partitioning=True, hive_schema={"name": pl.String})


def read_csv(pattern: str) -> pl.LazyFrame:
    return pl.scan_csv(pattern, schema=COLUMNS)


def read_json_lines(pattern: str) -> pl.LazyFrame:
    return pl.scan_ndjson(pattern, schema=COLUMNS)
