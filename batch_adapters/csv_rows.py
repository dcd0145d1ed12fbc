"""CSV records to rows: which can't be rows, and the fields of the others.

polars cuts the fields of regular records; records with quotes at odd places are written anew for it,
with all their fields quoted. Where polars still sees other rows than our rules do, these decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from batch_adapters.records import Dialect, Piece, outside
from streamcore.batch import OFFSET, SUB, FrameChunk, Int64s, Original, PartitionId, Rejects

_MARK = b"\xef\xbb\xbf"
_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Layout:
    """How one file is laid out: its columns, its dialect, and the position of its first data record."""

    names: tuple[str, ...]
    dialect: Dialect
    begin: int


class CsvChunk(FrameChunk):
    """Rows of a piece of CSV text, which is kept for the originals."""

    __slots__ = ("_piece",)

    def __init__(
        self,
        source: PartitionId,
        first: int,
        piece: Piece,
        offsets: Int64s,
        frame: pl.DataFrame,
        rejects: Rejects,
    ) -> None:
        self._piece = piece
        nbytes = len(piece.data) + int(frame.estimated_size())
        super().__init__(source, offsets, frame, first=first, end=piece.end, rejects=rejects, nbytes=nbytes)

    def original(self, offset: int) -> Original:
        """The record's bytes (UTF-8, without its line end), also of one in ``rejects``."""
        return Original(self._piece.record(offset), "bytes")


def rows_of(piece: Piece, layout: Layout, source: PartitionId, first: int) -> CsvChunk:
    """The chunk of *piece*, covering ``[first, piece.end)``; records that can't be rows are its rejects."""
    schema = pl.Schema(dict.fromkeys(layout.names, pl.String()))
    offsets = piece.starts + piece.base
    if piece.fault:
        rows = pl.DataFrame({OFFSET: offsets, SUB: np.zeros(1, np.uint32)})
        rejects = Rejects.of(rows, "read", piece.fault.code, piece.fault.message)
        return CsvChunk(source, first, piece, offsets[:0], schema.to_frame(), rejects)
    bad, rejects = _refused(piece, layout, offsets)
    frame = _frame(piece, layout, ~bad, schema)
    return CsvChunk(source, first, piece, offsets[~bad], frame, rejects)


def _refused(piece: Piece, layout: Layout, offsets: Int64s) -> tuple[npt.NDArray[np.bool_], Rejects]:
    """Which records can't be rows, and why; a record counts once, by the first reason."""
    array = np.frombuffer(piece.data, np.uint8)
    delimiters = outside(np.flatnonzero(array == layout.dialect.delimiter), piece.quotes.toggles)
    fields = np.searchsorted(delimiters, piece.ends) - np.searchsorted(delimiters, piece.starts) + 1
    ragged = fields != len(layout.names)
    invalid = _invalid_text(piece)
    stray = np.zeros(len(piece), bool)
    stray[np.searchsorted(piece.starts, piece.quotes.stray, "right") - 1] = True
    bad = ragged | invalid | stray
    if not bad.any():
        return bad, Rejects()
    rows = pl.DataFrame(
        {
            OFFSET: offsets[bad],
            SUB: np.zeros(int(bad.sum()), np.uint32),
            "fields": fields[bad],
            "invalid": invalid[bad],
            "stray": stray[bad],
        }
    )
    code = (
        pl.when("invalid")
        .then(pl.lit("encoding"))
        .when("stray")
        .then(pl.lit("quote"))
        .otherwise(pl.lit("ragged"))
    )
    message = (
        pl.when("invalid")
        .then(pl.lit("the record is not valid text in the file's encoding"))
        .when("stray")
        .then(pl.lit("text after a closing quote"))
        .otherwise(pl.format("record of {} fields, expected {}", "fields", pl.lit(len(layout.names))))
    )
    return bad, Rejects.of(rows, "read", code, message)


def _invalid_text(piece: Piece) -> npt.NDArray[np.bool_]:
    invalid = np.zeros(len(piece), bool)
    if piece.data.isascii():
        return invalid
    try:
        piece.data.decode()
    except UnicodeDecodeError:
        for i, (start, end) in enumerate(zip(piece.starts.tolist(), piece.ends.tolist(), strict=True)):
            try:
                piece.data[start:end].decode()
            except UnicodeDecodeError:
                invalid[i] = True
    return invalid


def _frame(piece: Piece, layout: Layout, good: npt.NDArray[np.bool_], schema: pl.Schema) -> pl.DataFrame:
    """The good records as columns, cut by polars."""
    count = int(good.sum())
    if not count:
        return schema.to_frame()
    text = _clean_text(piece, layout.dialect, good)
    try:
        frame = pl.read_csv(
            text,
            has_header=False,
            schema=schema,
            infer_schema=False,
            separator=chr(layout.dialect.delimiter or 0),
            quote_char=chr(layout.dialect.quote) if layout.dialect.quote else None,
            empty_string_is_null=True,
            glob=False,
        )
        if frame.height == count:
            return frame
    except pl.exceptions.PolarsError:
        pass
    # Our own rules have the last word where polars sees other rows than they do.
    spans = zip(piece.starts[good].tolist(), piece.ends[good].tolist(), strict=True)
    records = [piece.data[start:end].decode() for start, end in spans]
    return pl.DataFrame(
        [split_fields(record, layout.dialect) for record in records], schema=schema, orient="row"
    )


def _clean_text(piece: Piece, dialect: Dialect, good: npt.NDArray[np.bool_]) -> bytes:
    """The good records as text that polars reads alike: no lone CR, no quote in an unquoted field."""
    odd = np.zeros(len(piece), bool)
    odd[np.searchsorted(piece.starts, piece.quotes.literal, "right") - 1] = True
    first = int(np.argmax(good))
    # polars would take the mark for that of the text
    odd[first] |= piece.data.startswith(_MARK, int(piece.starts[first]))
    array = np.frombuffer(piece.data + b"\n\n", np.uint8)
    crlf = (array[piece.ends] == _CR) & (array[piece.ends + 1] == _LF)
    lone = piece.ends[(array[piece.ends] == _CR) & ~crlf]
    follows = np.minimum(piece.ends + 1 + crlf, len(piece.data))
    joined = follows[:-1] == piece.starts[1:]  # False where blank lines lie between two records
    plain = good & ~odd
    if plain.all() and joined.all() and not len(lone):
        return piece.data[int(piece.starts[0]) : int(follows[-1])]
    array = array.copy()
    array[lone] = _LF
    data = array.tobytes()
    breaks = np.flatnonzero(~(joined & plain[:-1] & plain[1:])) + 1
    parts: list[bytes] = []
    for i, j in zip([0, *breaks.tolist()], [*breaks.tolist(), len(piece)], strict=True):
        if plain[i]:
            parts.append(data[int(piece.starts[i]) : int(follows[j - 1])])
        elif good[i]:
            parts.append(_requoted(piece.data[int(piece.starts[i]) : int(piece.ends[i])], dialect))
    return b"".join(parts)


def _requoted(record: bytes, dialect: Dialect) -> bytes:
    """The record with all its fields quoted, null ones aside."""
    quote, fields = chr(dialect.quote or 0), split_fields(record.decode(), dialect)
    if dialect.quote is None:
        return record + b"\n"
    quoted = ("" if f is None else f"{quote}{f.replace(quote, quote * 2)}{quote}" for f in fields)
    return chr(dialect.delimiter or 0).join(quoted).encode() + b"\n"


def split_fields(record: str, dialect: Dialect) -> list[str | None]:
    """The fields of one record by the rules of this module."""
    delimiter = chr(dialect.delimiter or 0)
    if dialect.quote is None:
        return [field or None for field in record.split(delimiter)]
    quote, fields, at = chr(dialect.quote), [], 0
    while at <= len(record):
        if not record.startswith(quote, at):
            end = _find_or_end(record, delimiter, at)
            fields.append(record[at:end] or None)
        else:
            close = _find_or_end(record, quote, at + 1)
            while record.startswith(quote, close + 1):
                close = _find_or_end(record, quote, close + 2)
            end = _find_or_end(record, delimiter, close + 1)
            fields.append(record[at + 1 : close].replace(quote * 2, quote) + record[close + 1 : end])
        at = end + 1
    return fields


def _find_or_end(text: str, wanted: str, start: int) -> int:
    found = text.find(wanted, start)
    return found if found >= 0 else len(text)
