"""JSON files as bounded streams: one document a line, or one array; positions are bytes.

Which of the two is told by the first byte that is no white space (``[``: an array) unless ``layout``
says so. Records are the documents' bytes as they stand; the stream's JSON decoder judges them.

Lines: LF or CRLF; blank ones are skipped; one above the limit is refused ("too_large", stage "read").
A file of lines is split for parallel reading at any line. Array: cut by :mod:`batch_adapters.json_array`.
Refused there: "empty" (a missing element), "truncated", "brackets" and "trailing" (what can't be cut,
to the end of the file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from batch_adapters.files import InputFile, digest
from batch_adapters.json_array import ElementCutter, Elements
from batch_adapters.records import Dialect, Piece, RecordCutter
from batch_adapters.text_stream import TextOptions, open_text, seekable
from streamcore.batch import OFFSET, SUB, Chunk, Int64s, Original, PartitionId, Rejects
from streamcore.contracts import Split, SplitReader

_WHITE = b" \t\r\n"
_BLOCK = 1 << 16
_LINES = Dialect()


class JsonOptions(TextOptions):
    """Options of JSON files."""

    layout: Literal["auto", "lines", "array"] = Field(
        "auto", description="'lines': a document a line; 'array': one array; 'auto': by the first byte."
    )
    min_split_bytes: int = Field(32 << 20, gt=0, description="Smallest part to read in parallel.")


@dataclass(frozen=True, slots=True)
class JsonFile:
    """One JSON file as a source."""

    file: InputFile
    options: JsonOptions

    @property
    def uri(self) -> str:
        return self.file.name

    def fingerprint(self) -> str:
        return digest(self.file, self.options.model_dump_json())

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def splits(self, wanted: int) -> Sequence[Split]:
        array = self._is_array()
        count = min(wanted, self.file.size // self.options.min_split_bytes)
        if array or count < 2 or not seekable(self.file, self.options):
            return [JsonSplit(self.file, self.options, array, 0, None)]
        bounds = {
            0,
            self.file.size,
            *(self._line_after(self.file.size * i // count) for i in range(1, count)),
        }
        return [
            JsonSplit(self.file, self.options, array, start, end) for start, end in pairwise(sorted(bounds))
        ]

    def _is_array(self) -> bool:
        if self.options.layout != "auto":
            return self.options.layout == "array"
        stream = open_text(self.file, self.options)
        try:
            while data := stream.read(_BLOCK):
                if head := data.lstrip(_WHITE):
                    return head.startswith(b"[")
        finally:
            stream.close()
        return False

    def _line_after(self, position: int) -> int:
        """Where the first line that starts at or after *position* does."""
        stream = open_text(self.file, self.options, position=position - 1)
        try:
            while data := stream.read(_BLOCK):
                if (at := data.find(b"\n")) >= 0:
                    return stream.position - len(data) + at + 1
        finally:
            stream.close()
        return self.file.size


@dataclass(frozen=True, slots=True)
class JsonSplit:
    """Bytes ``[start, end)`` of a JSON file; ``end`` None: to its end. Positions count from ``start``."""

    file: InputFile
    options: JsonOptions
    array: bool
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

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        return ArrayReader(self, source, position) if self.array else LinesReader(self, source, position)


class DocumentChunk(Chunk):
    """Documents of a piece of text: record *i* is ``data[starts[i]:ends[i]]``, at ``base + starts[i]``.

    Those at the places *bad* are in ``rejects`` instead.
    """

    __slots__ = ("_base", "_data", "_ends", "_good", "_starts")

    def __init__(
        self, source: PartitionId, first: int, piece: Piece | Elements, rejects: Rejects | None = None
    ) -> None:
        self._data, self._base, self._starts, self._ends = piece.data, piece.base, piece.starts, piece.ends
        self._good = np.ones(len(piece.starts), bool)
        if rejects is not None:
            self._good = ~np.isin(self._starts + self._base, rejects.frame[OFFSET].to_numpy())
        nbytes = 2 * len(piece.data) + 60 * len(piece.starts)
        super().__init__(source, first, piece.end, nbytes=nbytes, rejects=rejects)

    def __len__(self) -> int:
        return int(self._good.sum())

    def offsets(self) -> Int64s:
        offsets: Int64s = self._starts[self._good] + self._base
        return offsets

    def values(self) -> list[bytes | None]:
        data = self._data
        spans = zip(self._starts[self._good].tolist(), self._ends[self._good].tolist(), strict=True)
        return [data[start:end] for start, end in spans]

    def original(self, offset: int) -> Original:
        """The document's bytes, also of one in ``rejects``."""
        at = int(np.searchsorted(self._starts, offset - self._base))
        return Original(self._data[int(self._starts[at]) : int(self._ends[at])], "bytes")


def _refused(offsets: Int64s, code: str, message: str) -> Rejects:
    rows = pl.DataFrame({OFFSET: offsets, SUB: np.zeros(len(offsets), np.uint32)})
    return Rejects.of(rows, "read", code, message)


class LinesReader:
    """Reads documents that stand one a line."""

    def __init__(self, split: JsonSplit, source: PartitionId, position: int) -> None:
        self._source, self._first = source, position
        self._stream = open_text(
            split.file, split.options, start=split.start, end=split.end, position=position
        )
        self._cutter = RecordCutter(self._stream, _LINES, split.options.max_record_bytes)

    def read(self, max_bytes: int) -> DocumentChunk | None:
        piece = self._cutter.next(max_bytes // 2)
        if piece is None:
            return None
        rejects = None
        if piece.fault:
            rejects = _refused(piece.starts + piece.base, piece.fault.code, piece.fault.message)
        chunk = DocumentChunk(self._source, self._first, piece, rejects)
        self._first = chunk.end
        return chunk

    def close(self) -> None:
        self._stream.close()


class ArrayReader:
    """Reads the elements of an array."""

    def __init__(self, split: JsonSplit, source: PartitionId, position: int) -> None:
        self._source, self._first = source, position
        self._stream = open_text(split.file, split.options, position=position)
        self._cutter = ElementCutter(
            self._stream, split.options.max_record_bytes, split.file.name, opened=position > 0
        )

    def read(self, max_bytes: int) -> DocumentChunk | None:
        piece = self._cutter.next(max_bytes // 2)
        if piece is None:
            return None
        offsets = piece.starts + piece.base
        empty = piece.starts == piece.ends
        rejects = []
        if empty.any():
            rejects.append(_refused(offsets[empty], "empty", "an element of the array is missing"))
        if piece.code:
            rejects.append(_refused(offsets[-1:], piece.code, piece.message))
        chunk = DocumentChunk(self._source, self._first, piece, Rejects.join(rejects) if rejects else None)
        self._first = chunk.end
        return chunk

    def close(self) -> None:
        self._stream.close()
