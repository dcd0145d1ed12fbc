"""Parquet files as bounded streams: positions are row numbers, splits are runs of row groups.

A row group is read column by column in small batches, so that memory is bounded by what one batch
needs; a group above ``max_piece_bytes`` is refused before anything is read. Resuming skips whole row
groups and drops the rows before the position in the one that holds it.

Writers don't always check text: a row with a String that is not UTF-8 is refused ("encoding", stage
"read"); its original is the row as Arrow, with its strings as binary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from batch_adapters.files import InputFile, digest, reading
from batch_adapters.refused_rows import PartlyRefusedChunk, Refused
from streamcore.batch import FrameChunk, Int64s, PartitionId
from streamcore.contracts import Split
from streamcore.errors import BadConfig, Permanent

_BATCH_BYTES, _BATCH_ROWS = 1 << 20, 1 << 16
"""Of a batch, which is decoded at once. Arrow's allocator keeps what batches took for a while, for each
thread: with batches of 4 MB a process had 80 MB more."""


_SMALL_DICTIONARY = 1.5
"""Bytes a row: the places take that for some thousand values, fewer than a batch has rows."""


class ParquetOptions(BaseModel):
    """Options of Parquet files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_piece_bytes: int = Field(256 << 20, gt=0, description="Largest row group, in uncompressed bytes.")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Place, number of rows and uncompressed size of a row group, and its texts of few different values."""

    index: int
    rows: int
    nbytes: int
    repeating: frozenset[str]


def _texts(schema: pq.ParquetSchema) -> Sequence[int]:
    """The places of the columns of text that are not parts of others."""
    columns = [(i, schema.column(i)) for i in range(len(schema))]
    return [i for i, one in columns if one.logical_type.type == "STRING" and one.path == one.name]


def _repeating(group: pq.RowGroupMetaData, texts: Sequence[int]) -> frozenset[str]:
    """Those of the columns *texts* of *group* whose values are all in a small dictionary.

    A text that is written as it is takes four bytes for its length alone.
    """
    columns = [group.column(i) for i in texts]
    least = _SMALL_DICTIONARY * group.num_rows
    return frozenset(one.path_in_schema for one in columns if one.total_uncompressed_size < least)


def _parquet(file: InputFile) -> AbstractContextManager[None]:
    """Translate errors of pyarrow and polars."""
    text = "the Parquet file is broken, cut off or not supported"
    return reading(file, text, (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError))


def _open(file: InputFile, repeating: Sequence[str] = ()) -> tuple[pa.NativeFile, pq.ParquetFile]:
    """The file, which the caller closes, and its reader; the texts of *repeating* stay dictionaries."""
    file.check_unchanged()
    handle = file.open(in_order=False)
    try:
        with _parquet(file):
            opened = pq.ParquetFile(
                handle, pre_buffer=False, buffer_size=file.piece, read_dictionary=repeating
            )
        _check_types(opened.schema_arrow, file.name)
        return handle, opened
    except BaseException:
        handle.close()
        raise


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """One Parquet file as a source."""

    file: InputFile
    options: ParquetOptions

    @property
    def uri(self) -> str:
        return self.file.name

    def fingerprint(self) -> str:
        return digest(self.file, "")

    def columns(self) -> pl.Schema | None:
        """The file's columns as polars types; dictionaries are read as strings."""
        try:
            handle, opened = _open(self.file)
            with handle, _parquet(self.file):
                return _frame(opened.schema_arrow.empty_table()).schema
        except Permanent as error:
            raise BadConfig(error.what, where=error.where, got=error.got, fix=error.fix) from error

    def splits(self, wanted: int) -> Sequence[Split]:
        """Runs of row groups of about the same number of rows. BadConfig when a row group is too large."""
        handle, opened = _open(self.file)
        with handle:
            about = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
        texts = _texts(opened.schema)
        groups = [
            RowGroup(i, group.num_rows, group.total_byte_size, _repeating(group, texts))
            for i, group in enumerate(about)
        ]
        for group in groups:
            self._check_size(group)
        ends = np.cumsum([group.rows for group in groups])
        count = max(1, min(wanted, len(groups)))
        runs: list[list[RowGroup]] = [[] for _ in range(count)]
        for group, end in zip(groups, ends.tolist(), strict=True):
            middle = end - group.rows / 2
            runs[min(count - 1, int(count * middle / max(1, ends[-1])))].append(group)
        return [ParquetSplit(self.file, tuple(run)) for run in runs if run]

    def _check_size(self, group: RowGroup) -> None:
        limit = self.options.max_piece_bytes
        if group.nbytes > limit:
            rows = max(1, group.rows * limit // (2 * group.nbytes))
            raise BadConfig(
                f"row group {group.index} holds {group.nbytes} bytes, above max_piece_bytes={limit}",
                where=self.file.name,
                fix=f"write the file again with row groups of {rows} rows, or raise max_piece_bytes",
            )


@dataclass(frozen=True, slots=True)
class ParquetSplit:
    """A run of row groups; positions are row numbers that count from its first row."""

    file: InputFile
    groups: tuple[RowGroup, ...]
    bookmark = b""

    @property
    def name(self) -> str:
        first, last = self.groups[0].index, self.groups[-1].index
        return f"{self.file.name}[row groups {first}-{last}]"

    @property
    def size(self) -> int:
        """Rows."""
        return sum(group.rows for group in self.groups)

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> ParquetReader:
        return ParquetReader(self, source, position)


class ParquetReader:
    """Reads one split."""

    def __init__(self, split: ParquetSplit, source: PartitionId, position: int) -> None:
        self._split, self._source, self._position = split, source, position
        repeating = frozenset.intersection(*(group.repeating for group in split.groups))
        self._handle, self._opened = _open(split.file, sorted(repeating))
        self._batches = self._read_batches(position)
        self._rest: pa.RecordBatch | None = None

    def read(self, max_bytes: int) -> FrameChunk | None:
        batches: list[pa.RecordBatch] = []
        left = max_bytes
        with _parquet(self._split.file):
            while left > 0 or not batches:
                batch = self._rest if self._rest is not None else next(self._batches, None)
                self._rest = None
                if batch is None:
                    break
                size = max(1, _nbytes(batch))
                rows = max(1, min(batch.num_rows, left * batch.num_rows // size))
                if rows < batch.num_rows:
                    self._rest = batch.slice(rows)
                batches.append(batch.slice(0, rows))
                left -= max(1, size * rows // batch.num_rows)
                if self._rest is not None:
                    break
            if not batches:
                return None
            table = pa.Table.from_batches(batches)
            first, self._position = self._position, self._position + table.num_rows
            return self._chunk(table, np.arange(first, self._position, dtype=np.int64))

    def _chunk(self, table: pa.Table, offsets: Int64s) -> FrameChunk:
        first, end = int(offsets[0]), self._position
        try:
            table.validate(full=True)
        except pa.ArrowInvalid:
            raw = table.cast(_as_binary(table.schema))
            raw.validate(full=True)
            frame, bad = _decoded(_frame(raw), _frame(table.schema.empty_table()).schema)
            message = "a string of the row is not valid UTF-8"
            refused = Refused(bad, _frame(raw).filter(bad), "encoding", message)
            return PartlyRefusedChunk(self._source, offsets, frame, refused, first=first, end=end)
        return FrameChunk(self._source, offsets, _frame(table), first=first, end=end)

    def _read_batches(self, position: int) -> Iterator[pa.RecordBatch]:
        """The rows from *position* on."""
        skip = position
        for group in self._split.groups:
            if skip >= group.rows:
                skip -= group.rows
                continue
            row = max(group.nbytes // group.rows, 8 * self._opened.metadata.num_columns, 1)
            size = max(1, min(_BATCH_BYTES // row, _BATCH_ROWS))
            # Splits are read side by side: more threads for each would only hand columns to and fro.
            for batch in self._opened.iter_batches(size, row_groups=[group.index], use_threads=False):
                if skip < batch.num_rows:
                    yield batch.slice(skip)
                skip = max(0, skip - batch.num_rows)

    def close(self) -> None:
        self._handle.close()


def _nbytes(batch: pa.RecordBatch) -> int:
    """The bytes of *batch* with the values of its dictionaries written out, about."""
    found = [column.dictionary for column in batch.columns if pa.types.is_dictionary(column.type)]
    means = sum(values.nbytes / max(1, len(values)) for values in found)
    return int(batch.nbytes + batch.num_rows * means)


def _frame(table: pa.Table) -> pl.DataFrame:
    """*table* as polars has it, with the values of its dictionaries."""
    dictionaries = {i for i, field in enumerate(table.schema) if pa.types.is_dictionary(field.type)}
    others = [i for i in range(table.num_columns) if i not in dictionaries]
    frame = pl.from_arrow(table.select(others))
    assert isinstance(frame, pl.DataFrame)
    for i in sorted(dictionaries):
        frame.insert_column(i, _values(table.column(i)).alias(table.schema.names[i]))
    return frame


def _values(column: pa.ChunkedArray) -> pl.Series:
    """The values of dictionaries, one for each chunk: those at the places."""
    if not column.num_chunks:
        return _series(pa.array([], column.type.value_type))
    chunks = column.unify_dictionaries().chunks
    places = pa.chunked_array([chunk.indices for chunk in chunks])
    return _series(chunks[0].dictionary).gather(_series(places))


def _series(array: pa.Array | pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _check_types(schema: pa.Schema, where: str) -> None:
    """BadConfig for decimals that a column has no room for: polars would panic."""
    for field in schema:
        if _has_wide_decimals(field.type):
            raise BadConfig(
                f"the column {field.name!r} holds decimals of more than 128 bits",
                where=where,
                got=str(field.type),
                allowed=["decimals of up to 38 digits"],
                fix="write the file again with fewer digits, or with texts",
            )


def _has_wide_decimals(dtype: pa.DataType) -> bool:
    inner = (dtype.field(index).type for index in range(dtype.num_fields))
    return pa.types.is_decimal256(dtype) or any(map(_has_wide_decimals, inner))


def _as_binary(schema: pa.Schema) -> pa.Schema:
    """*schema* with its strings as binary, which need not be valid text."""
    texts = (pa.string(), pa.large_string(), pa.string_view())
    plain = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema
    ]
    return pa.schema([f.with_type(pa.large_binary()) if f.type in texts else f for f in plain])


def _decoded(raw: pl.DataFrame, schema: pl.Schema) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """*raw* with its binary columns as the strings that *schema* says, and which rows can't be."""
    texts = [name for name, dtype in raw.schema.items() if dtype == pl.Binary and schema[name] == pl.String]
    frame = raw.with_columns(
        pl.Series(name, [_text(value) for value in raw[name]], pl.String) for name in texts
    )
    wrong = [(frame[name].is_null() & raw[name].is_not_null()).to_numpy() for name in texts]
    return frame, np.logical_or.reduce(wrong) if wrong else np.zeros(raw.height, bool)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
