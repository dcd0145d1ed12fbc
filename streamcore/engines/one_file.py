"""One file as the destination of a bounded stream: written as a folder of parts, which are then joined.

A file sink writes folders, since a stream has no end and a file can't be written by several at once. Where it
does end, the parts are joined in the source's order into a file aside, which takes the place of what was
there in one step: readers see the old file or the new one. Done again after a crash it gives the same file.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import polars as pl

from streamcore.contracts import Sink
from streamcore.errors import BadConfig, Permanent
from streamcore.sinks import Csv, Excel, JsonLines, Parquet
from streamcore.sinks.excel_format import SHEET_ROWS

FileSink: TypeAlias = Csv | Excel | JsonLines | Parquet
_COMPRESSED = (".gz", ".zst", ".bz2", ".zip")
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class OneFile:
    """The file at *path*; *sink* writes its parts into the hidden folder *parts* beside it.

    *others*: the pattern of all folders of the same writer, also of runs that were given up.
    """

    path: Path
    parts: Path
    sink: FileSink
    others: str

    @classmethod
    def of(cls, sink: Sink, writer: str, run: str) -> OneFile | None:
        """The one file that *sink* was meant to write, by its path; None when that is a folder, or elsewhere.

        *writer* names who writes it, and *run* what is read for it. BadConfig for what can't be one file.
        """
        if not isinstance(sink, FileSink) or "://" in sink.path or sink.folders:
            return None
        path = Path(sink.path)
        if not path.suffix or sink.path.endswith("/") or path.is_dir():
            return None
        if path.suffix.lower() in _COMPRESSED:
            raise BadConfig("files are not written compressed", where=sink.path, fix="leave the suffix away")
        prefix = f".{path.name[:100]}.{writer}"
        parts = path.parent / f"{prefix}-{run}"
        rows = SHEET_ROWS if isinstance(sink, Excel) else sink.roll_rows
        staged = dataclasses.replace(sink, path=str(parts), name=sink.name, roll_rows=rows)
        return cls(path, parts, staged, f"{glob.escape(prefix)}-*")

    @property
    def in_order(self) -> bool:
        """Whether the source is to be read in its own order: parts of workbooks can't be joined."""
        return isinstance(self.sink, Excel)

    def publish(self, columns: pl.Schema) -> None:
        """Join the parts and put the file in its place, durably. Permanent when that can't be done."""
        there = sorted(part for part in self.parts.glob(f"*{self.sink.format.suffix}") if part.is_file())
        if not there and not self.parts.is_dir():  # a run without rows leaves an empty folder
            fix = "does another call write the same file? Call again"
            raise Permanent("the parts of the file are gone", where=str(self.path), fix=fix)
        aside = self.path.parent / f"{self.parts.name}.tmp"
        try:
            if there:
                _JOINED[type(self.sink)](self.sink, there, aside, self.path)
            else:
                self._write_empty(aside, columns)
            _synced(aside)
            aside.replace(self.path)
            _synced(self.path.parent)
        except OSError as error:
            fix = "make room, or let this user write there, and call again"
            raise Permanent(
                "the file can't be written", where=str(self.path), got=error.strerror, fix=fix
            ) from None
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take the parts away, and those of runs that were given up. No other run of the writer may go on."""
        with suppress(OSError):  # in one step: after a crash there are all of them or none
            self.parts.rename(self.parts.with_name(f"{self.parts.name}.gone"))
        for folder in self.path.parent.glob(self.others):
            shutil.rmtree(folder, ignore_errors=True)

    def _write_empty(self, aside: Path, columns: pl.Schema) -> None:
        if isinstance(self.sink, JsonLines) and _is_array(self.path):
            aside.write_bytes(b"[]\n")
            return
        with aside.open("wb") as file:
            self.sink.format.write(pl.DataFrame(schema=columns), file)


def _join_parquet(sink: FileSink, parts: Sequence[Path], aside: Path, path: Path) -> None:
    """Bounded in memory: polars streams from row group to row group."""
    if len(parts) == 1:
        _link(parts[0], aside)
        return
    assert isinstance(sink, Parquet)
    level = 1 if sink.compression == "zstd" else None
    pl.scan_parquet(list(parts)).sink_parquet(aside, compression=sink.compression, compression_level=level)


def _join_csv(sink: FileSink, parts: Sequence[Path], aside: Path, path: Path) -> None:
    """The header of the first, the rows of all."""
    with aside.open("wb") as file:
        for number, part in enumerate(parts):
            with part.open("rb") as one:
                if number:
                    one.seek(_header_bytes(sink, one))
                shutil.copyfileobj(one, file, _PIECE)


def _header_bytes(sink: FileSink, part: BinaryIO) -> int:
    """How long the header of a part is, which may hold line breaks in quotes."""
    quoted, at = False, 0
    while piece := part.read(1):
        at += 1
        quoted ^= piece == b'"'
        if piece == b"\n" and not quoted:
            break
    return at


def _join_json(sink: FileSink, parts: Sequence[Path], aside: Path, path: Path) -> None:
    """Lines one behind the other; as one array where the name says .json."""
    array = _is_array(path)
    with aside.open("w+b") as file:
        file.write(b"[\n" if array else b"")
        for part in parts:
            with part.open("rb") as one:
                while piece := one.read(_PIECE):
                    file.write(piece.replace(b"\n", b",\n") if array else piece)
        if array:
            file.seek(-2, os.SEEK_END)  # the last row has no comma
            file.write(b"\n]\n")


def _join_excel(sink: FileSink, parts: Sequence[Path], aside: Path, path: Path) -> None:
    if len(parts) > 1:
        raise Permanent(
            "the rows do not fit into one workbook",
            where=str(path),
            allowed=[f"{SHEET_ROWS} rows"],
            fix="name a folder instead of a file, or another format",
        )
    _link(parts[0], aside)


_JOINED: Mapping[type[FileSink], Callable[[FileSink, Sequence[Path], Path, Path], None]] = {
    Csv: _join_csv,
    Excel: _join_excel,
    JsonLines: _join_json,
    Parquet: _join_parquet,
}


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _link(part: Path, aside: Path) -> None:
    aside.unlink(missing_ok=True)
    os.link(part, aside)


def _synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
