"""CSV files as bounded streams: every column a String, positions are the bytes at which records start.

Quoting is that of Python's csv module (see :mod:`batch_adapters.records`); LF, CRLF and a lone CR end
a record. An empty field is null, a quoted empty field (``""``) is the empty string. Blank lines are
skipped. Types are the stream's business: its decoder casts strictly and refuses rows that don't fit.

Refused records (stage "read", the record's bytes are its original, neighbours pass):
``ragged`` too few or too many fields; ``encoding`` not valid text; ``quote`` text after a closing
quote, or a quote that is never closed (its first line only); ``too_large``.

Header: an empty name becomes ``column_3`` (its place), a repeated one ``name_2``, ``name_3``.
Delimiter, unless given: of ``, ; tab |`` the one that gives the most records of the first 64 KB as many
fields as the first record has (two or more), then more fields, then in this order; ``,`` when none does.

A split for parallel reading begins where a pass over the whole file, with all of the rules above, finds
a record; compressed or transcoded files can't be entered in the middle and are one split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from batch_adapters.column_names import unique_names
from batch_adapters.csv_rows import CsvChunk, Layout, rows_of, split_fields
from batch_adapters.files import InputFile, digest
from batch_adapters.records import Dialect, Piece, RecordCutter
from batch_adapters.text_stream import TextOptions, open_text, seekable
from streamcore.batch import PartitionId
from streamcore.contracts import Split
from streamcore.errors import BadConfig

_CANDIDATES = ",;\t|"
_SAMPLE = 1 << 16
_SCAN = 4 << 20


class CsvOptions(TextOptions):
    """Options of CSV files."""

    delimiter: str | None = Field(
        None, description="Field delimiter, one ASCII character; default: found out."
    )
    quote: str | None = Field('"', description="Quote character; empty: quotes mean nothing.")
    header: bool | None = Field(
        None, description="Whether the first record is a header; if not given: yes, unless names are given."
    )
    names: tuple[str, ...] | None = Field(None, description="Column names, instead of the header's.")
    min_split_bytes: int = Field(32 << 20, gt=0, description="Smallest part to read in parallel.")

    @field_validator("quote", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise ValueError("must be one ASCII character and no line end")
        return value

    @field_validator("names", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class CsvFile:
    """One CSV file as a source."""

    file: InputFile
    options: CsvOptions

    @property
    def uri(self) -> str:
        return self.file.name

    def fingerprint(self) -> str:
        return digest(self.file, self.options.model_dump_json())

    def columns(self) -> pl.Schema | None:
        """All String; None for an empty file. BadConfig when the header can't be read."""
        layout = _layout(self.file, self.options)
        return pl.Schema(dict.fromkeys(layout.names, pl.String())) if layout.names else None

    def splits(self, wanted: int) -> Sequence[Split]:
        bounds = [0, *self._boundaries(wanted), self.file.size]
        whole = len(bounds) == 2
        return [
            CsvSplit(self.file, self.options, start, None if whole else end)
            for start, end in pairwise(bounds)
        ]

    def _boundaries(self, wanted: int) -> list[int]:
        """Positions inside the file at which to split it."""
        count = min(wanted, self.file.size // self.options.min_split_bytes)
        if count < 2 or not seekable(self.file, self.options):
            return []
        targets = [self.file.size * i // count for i in range(1, count)]
        layout, found = _layout(self.file, self.options), []
        stream = open_text(self.file, self.options, position=layout.begin)
        cutter = RecordCutter(stream, layout.dialect, self.options.max_record_bytes)
        for piece in cutter.pieces(_SCAN):
            while targets and targets[0] < piece.end:
                at = np.searchsorted(piece.starts + piece.base, targets.pop(0))
                found.append(int(piece.starts[at]) + piece.base if at < len(piece) else piece.end)
        stream.close()
        return sorted({place for place in found if place < self.file.size})


@dataclass(frozen=True, slots=True)
class CsvSplit:
    """Bytes ``[start, end)`` of a CSV file; ``end`` None: to its end. Positions count from ``start``."""

    file: InputFile
    options: CsvOptions
    start: int
    end: int | None
    bookmark = b""

    @property
    def name(self) -> str:
        part = "" if self.end is None else f"[{self.start}:{self.end}]"
        return f"{self.file.name}{part}"

    @property
    def size(self) -> int:
        """Bytes; of a compressed or transcoded file as it lies on the disk."""
        return (self.file.size if self.end is None else self.end) - self.start

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> CsvReader:
        return CsvReader(self, source, position)


class CsvReader:
    """Reads one split."""

    def __init__(self, split: CsvSplit, source: PartitionId, position: int) -> None:
        self._source, self._first = source, position
        self._layout = _layout(split.file, split.options)
        begin = max(position, self._layout.begin) if split.start == 0 else position
        self._stream = open_text(split.file, split.options, start=split.start, end=split.end, position=begin)
        self._cutter = RecordCutter(self._stream, self._layout.dialect, split.options.max_record_bytes)

    def read(self, max_bytes: int) -> CsvChunk | None:
        # A third: the frame of short strings takes about twice the bytes of the text.
        piece = self._cutter.next(max_bytes // 3)
        if piece is None:
            return None
        chunk = rows_of(piece, self._layout, self._source, self._first)
        self._first = chunk.end
        return chunk

    def close(self) -> None:
        self._stream.close()


# ---------------------------------------------------------------- header and delimiter


@lru_cache(maxsize=256)
def _layout(file: InputFile, options: CsvOptions) -> Layout:
    delimiter = options.delimiter or _sniff(file, options)
    dialect = Dialect(ord(delimiter), ord(options.quote) if options.quote else None, lone_cr=True)
    has_header = options.header if options.header is not None else options.names is None
    stream = open_text(file, options)
    try:
        cutter = RecordCutter(stream, dialect, options.max_record_bytes)
        begin = cutter.position
        if not has_header:
            return Layout(options.names or _numbered(cutter, dialect), dialect, begin)
        piece = cutter.next(_SAMPLE)
    finally:
        stream.close()
    if piece is None:
        return Layout(options.names or (), dialect, begin)
    header = _header(file, piece, dialect, options)
    after = int(piece.starts[1]) + piece.base if len(piece) > 1 else piece.end
    return Layout(options.names or unique_names(header), dialect, after)


def _header(file: InputFile, piece: Piece, dialect: Dialect, options: CsvOptions) -> list[str]:
    where = f"{file.name}:1"
    if piece.fault:
        raise BadConfig(f"cannot read the header: {piece.fault.message}", where=where)
    try:
        text = piece.data[int(piece.starts[0]) : int(piece.ends[0])].decode()
    except UnicodeDecodeError:
        raise BadConfig(
            "the header is not valid text", where=where, got=options.encoding, fix="give encoding="
        ) from None
    return [field or "" for field in split_fields(text, dialect)]


def _numbered(cutter: RecordCutter, dialect: Dialect) -> tuple[str, ...]:
    """Names for the columns of a file without any, as many as its first whole record has."""
    whole = (piece for piece in cutter.pieces(_SAMPLE) if not piece.fault)
    piece = next(whole, None)
    if piece is None:
        return ()
    first = piece.data[int(piece.starts[0]) : int(piece.ends[0])].decode("utf-8", "replace")
    return unique_names([""] * len(split_fields(first, dialect)))


def _sniff(file: InputFile, options: CsvOptions) -> str:
    stream = open_text(file, options)
    try:
        head = b""
        while len(head) < _SAMPLE and (data := stream.read(_SAMPLE - len(head))):
            head += data
    finally:
        stream.close()
    text = head.decode("utf-8", "replace").replace("\0", "\ufffd")
    scores = [(*_score(text, mark, options.quote, len(head) >= _SAMPLE), mark) for mark in _CANDIDATES]
    best = max(scores, key=lambda score: score[:2])
    return best[2] if best[1] > 1 else _CANDIDATES[0]


def _score(text: str, delimiter: str, quote: str | None, cut: bool) -> tuple[float, int]:
    """Share of records with as many fields as the first one, and how many these are."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    try:
        lines = io.StringIO(text, newline="")
        rows = [
            row for row in csv.reader(lines, delimiter=delimiter, quotechar=quote, quoting=quoting) if row
        ]
    except csv.Error:
        return 0.0, 0
    rows = rows[:-1] if cut and len(rows) > 1 else rows
    if not rows or len(rows[0]) < 2:
        return 0.0, 0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])
