"""Avro object container files as bounded streams: positions are row numbers, splits are ranges of blocks.

A block is read and unpacked as a whole, so memory is bounded by the largest one; a block above
``max_piece_bytes``, packed or unpacked, is refused. Between blocks stands the file's marker, by which a split
finds where one begins. A bookmark is the byte at which the block begins that a position lies in, so resuming
reads nothing before it.

Source: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import io
import lzma
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cramjam
import fastavro
import numpy as np
import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from batch_adapters.avro_container import (
    BROKEN,
    CODECS,
    SYNC_BYTES,
    Header,
    density,
    next_block,
    number_at,
    read_header,
)
from batch_adapters.files import InputFile, digest, reading
from streamcore.batch import FrameChunk, PartitionId
from streamcore.contracts import Split
from streamcore.errors import BadConfig, Permanent
from streamcore.formats.avro_blocks import read_records, record_sizes
from streamcore.formats.avro_schema import WriterSchema


class AvroOptions(BaseModel):
    """Options of Avro files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_piece_bytes: int = Field(256 << 20, gt=0, description="Largest block, packed or unpacked, in bytes.")
    min_split_bytes: int = Field(
        16 << 20, gt=0, description="Smallest part that is read on its own, in bytes."
    )


class _Mark(NamedTuple):
    """The block at byte ``at`` begins with row ``row`` of the split, whose blocks end at byte ``end``."""

    at: int
    end: int
    row: int = 0

    def pack(self) -> bytes:
        return orjson.dumps(list(self))


@dataclass(frozen=True, slots=True)
class AvroFile:
    """One Avro file as a source."""

    file: InputFile
    options: AvroOptions

    @property
    def uri(self) -> str:
        return self.file.name

    def fingerprint(self) -> str:
        return digest(self.file, "")

    def columns(self) -> pl.Schema | None:
        """The schema's fields as polars types; enums are read as strings. BadConfig as :meth:`splits`."""
        return _no_rows(self._header().schema, self.file).schema

    def splits(self, wanted: int) -> Sequence[Split]:
        """Ranges of blocks of about the same size. BadConfig when the file has no schema of rows."""
        header = self._header()
        size = self.file.size - header.end
        count = max(1, min(wanted, size // self.options.min_split_bytes))
        with reading(self.file, BROKEN), self.file.open() as handle:
            places = [header.end + size * part // count for part in range(1, count)]
            begins = [next_block(handle, place, header.sync, self.file.size) for place in places]
            rows_a_byte = density(handle, header, self.file) if size else 0.0
        cuts = sorted({header.end, *begins, self.file.size})
        marks = [_Mark(at, end) for at, end in pairwise(cuts)]
        return [
            AvroSplit(self.file, self.options, header, mark, math.ceil(rows_a_byte * (mark.end - mark.at)))
            for mark in marks or [_Mark(header.end, header.end)]
        ]

    def _header(self) -> Header:
        try:
            self.file.check_unchanged()
            with reading(self.file, BROKEN), self.file.open() as handle:
                return read_header(handle, self.file)
        except Permanent as error:
            raise BadConfig(error.what, where=error.where, got=error.got, fix=error.fix) from error


@dataclass(frozen=True, slots=True)
class AvroSplit:
    """A range of blocks; positions are row numbers that count from its first row."""

    file: InputFile
    options: AvroOptions
    header: Header
    mark: _Mark
    size: int
    """Rows, as many as there are if all blocks are like the first one."""

    @property
    def name(self) -> str:
        return f"{self.file.name}[{self.mark.at}-{self.mark.end}]"

    @property
    def bookmark(self) -> bytes:
        return self.mark.pack()

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> AvroReader:
        mark = _Mark(*orjson.loads(bookmark)) if bookmark else self.mark
        return AvroReader(self, source, position, mark)


class AvroReader:
    """Reads one split."""

    def __init__(self, split: AvroSplit, source: PartitionId, position: int, mark: _Mark) -> None:
        self._split, self._source, self._position, self._mark = split, source, position, mark
        self._file, self._header = split.file, split.header
        split.file.check_unchanged()
        self._handle = split.file.open(mark.at, mark.end)
        self._rows: pl.DataFrame | None = None
        """Those of the block at the mark."""

    def read(self, max_bytes: int) -> FrameChunk | None:
        parts: list[pl.DataFrame] = []
        left, first = max_bytes, self._position
        with reading(self._file, BROKEN):
            while left > 0 and (rows := self._block()) is not None:
                skipped = self._position - self._mark.row
                size = max(1, int(rows.estimated_size()) // max(1, rows.height))
                taken = rows.slice(skipped, max(1, left // size))
                parts.append(taken)
                self._position += taken.height
                left -= max(1, size * taken.height)
                if skipped + taken.height == rows.height:
                    self._mark = self._mark._replace(at=self._handle.tell(), row=self._position)
                    self._rows = None
        if first == self._position:
            return None
        offsets = np.arange(first, self._position, dtype=np.int64)
        chunk = FrameChunk(self._source, offsets, pl.concat(parts), first=first, end=self._position)
        chunk.bookmark = self._mark.pack()
        return chunk

    def _block(self) -> pl.DataFrame | None:
        """The rows of the block at the mark, of which some are not read yet; None at the end."""
        while self._rows is None and self._mark.at < self._mark.end:
            count, length = number_at(self._handle, self._file), number_at(self._handle, self._file)
            self._check_size(length)
            packed = self._handle.read(length)
            if len(packed) < length or self._handle.read(SYNC_BYTES) != self._header.sync:
                raise self._broken("a block that does not end with the file's marker")
            rows = self._frame(self._unpacked(packed), count)
            if rows.height > self._position - self._mark.row:
                self._rows = rows
            else:  # all of it was read before, or it has none
                row = self._mark.row + rows.height
                self._mark = self._mark._replace(at=self._handle.tell(), row=row)
        return self._rows

    def _frame(self, data: bytes, count: int) -> pl.DataFrame:
        schema = self._header.schema
        frame = read_records(schema, data, count)
        if frame is None or record_sizes(schema.record, frame).sum() != len(data):
            frame = self._by_rows(data, count)
        return _plain(frame)

    def _by_rows(self, data: bytes, count: int) -> pl.DataFrame:
        """A block that polars did not take: an encoder may write arrays in pieces, which it does not know."""
        stream, parsed = io.BytesIO(data), dict(self._header.schema.parsed)
        try:
            rows = [fastavro.schemaless_reader(stream, parsed, None) for _ in range(count)]
        except (EOFError, ValueError, LookupError, ArithmeticError, TypeError) as error:
            raise self._broken(type(error).__name__) from None
        if stream.tell() != len(data):
            raise self._broken("a block with more than its records")
        return pl.DataFrame(rows, schema=_no_rows(self._header.schema, self._file).schema)

    def _unpacked(self, packed: bytes) -> bytes:
        limit = self._split.options.max_piece_bytes
        try:
            data = CODECS[self._header.codec](packed, limit + 1)
        except (
            zlib.error,
            lzma.LZMAError,
            EOFError,
            ValueError,
            OSError,
            cramjam.DecompressionError,
        ) as error:
            raise self._broken(f"{self._header.codec}: {type(error).__name__}") from None
        self._check_size(len(data))
        return data

    def _check_size(self, size: int) -> None:
        limit = self._split.options.max_piece_bytes
        if not 0 <= size <= limit:
            raise Permanent(
                f"a block is larger than max_piece_bytes={limit}",
                where=f"{self._file.name}, byte {self._mark.at}",
                got=size,
                fix="raise max_piece_bytes, or write the file with smaller blocks",
            )

    def _broken(self, what: str) -> Permanent:
        return Permanent(BROKEN, where=f"{self._file.name}, byte {self._mark.at}", got=what)

    def close(self) -> None:
        self._handle.close()


def _no_rows(schema: WriterSchema, file: InputFile) -> pl.DataFrame:
    frame = read_records(schema, b"", 0) if schema.record.columnar else None
    if frame is None:
        wrong = [one.kind for one in schema.record.parts if not one.columnar]
        raise BadConfig(
            "an Avro file with fields that can't be columns",
            where=file.name,
            got=", ".join(wrong) or "no fields",
            fix="maps and unions of several types are read from topics only",
        )
    return _plain(frame)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.selectors.categorical().cast(pl.String))
