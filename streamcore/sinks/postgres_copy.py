"""Frames as PostgreSQL's COPY stream, without a Python object a value.

Binary, when every column has a binary form: a row is its number of fields and then, for each field,
its length (-1 is null) and its bytes, big-endian. Runs of fixed-width fields become byte matrices in
numpy, texts stay in their Arrow buffers, and one Arrow kernel interleaves the runs row by row.
Otherwise CSV, which the server parses.
Format: https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.sinks.nested_json import as_json
from streamcore.sinks.postgres_columns import ColumnPair

Matrix = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
SIGNATURE, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_SLICE_ROWS, _SLICE_BYTES = 65_536, 4 * 2**20
_EPOCH_DAYS, _EPOCH_MICROS = 10_957, 946_684_800_000_000
"""PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01."""
_DAY, _TIME = "%Y-%m-%d", "%H:%M:%S%.6f"
_WIRE = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8", "bool": "u1",
         "date": ">i4", "timestamp": ">i8", "timestamptz": ">i8", "time": ">i8"}  # fmt: skip


class CopyStream:
    """Makes the stream for a table's columns; ``form`` is "binary" or "csv"."""

    def __init__(self, pairs: Sequence[ColumnPair]) -> None:
        self._pairs = pairs
        self.columns = [pair.table.name for pair in pairs]
        self.form = "binary" if all(pair.binary for pair in pairs) else "csv"

    async def of(self, frame: pl.DataFrame) -> AsyncIterator[bytes]:
        """The whole stream in pieces, encoded in a thread while the server takes the piece before."""
        fitting = _SLICE_BYTES * frame.height // max(1, int(frame.estimated_size()))
        rows = max(1, min(_SLICE_ROWS, fitting))
        encode = self.binary if self.form == "binary" else self.csv
        if self.form == "binary":
            yield SIGNATURE
        for part in frame.iter_slices(rows):
            yield await asyncio.to_thread(encode, part)
        if self.form == "binary":
            yield TRAILER

    def csv(self, frame: pl.DataFrame) -> bytes:
        """Nulls are nothing, texts are quoted, so that an empty one and ``\\.`` stay what they are."""
        texts = frame.select(_as_text(pair) for pair in self._pairs)
        return texts.write_csv(include_header=False, quote_style="non_numeric").encode()

    def binary(self, frame: pl.DataFrame) -> bytes:
        """The tuples of *frame*, without signature and trailer."""
        count = np.full((frame.height, 2), np.frombuffer(len(self._pairs).to_bytes(2, "big"), np.uint8))
        run = _Run(count)
        columns: list[pa.Array] = []
        for pair in self._pairs:
            series = frame[pair.table.name]
            if isinstance(pair.dtype, pl.Null):
                run.add(_lengths(np.full(frame.height, -1)))
            elif pair.table.type in _WIRE or pair.table.type == "interval":
                run.add(*_fixed(pair, series))
            else:
                run.add(*_prefix(pair, series := _as_bytes(pair, series)))
                columns += [run.take(), series.fill_null(b"").to_arrow().cast(pa.large_binary())]
        columns.append(run.take())
        return _interleave(columns)


class _Run:
    """Neighbouring fields of fixed width: byte matrices side by side, and which of their bytes are sent."""

    def __init__(self, first: Matrix) -> None:
        self._rows = len(first)
        self._parts: list[tuple[Matrix, Mask | None]] = [(first, None)]

    def add(self, part: Matrix, kept: Mask | None = None) -> None:
        self._parts.append((part, kept))

    def take(self) -> pa.Array:
        """The run as one binary value a row, and begin a new one."""
        parts, self._parts = self._parts, []
        if not parts:
            return pa.repeat(pa.scalar(b"", pa.large_binary()), self._rows)
        whole = np.hstack([part for part, _ in parts])
        ends = np.arange(self._rows + 1, dtype=np.int64) * whole.shape[1]
        if any(kept is not None for _, kept in parts):
            kept = np.hstack(
                [np.ones(part.shape, np.bool_) if mask is None else mask for part, mask in parts]
            )
            np.cumsum(kept.sum(axis=1), out=ends[1:])
            whole = whole[kept]
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(whole))]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), self._rows, buffers)


def _fixed(pair: ColumnPair, series: pl.Series) -> tuple[Matrix, Mask | None]:
    """Length and bytes of each value, shape (rows, 4 + width), and what of it is sent if there are nulls."""
    values = _wire_values(pair, series)
    width = values.shape[1]
    if not series.null_count():
        return np.hstack([_lengths(np.full(len(series), width)), values]), None
    valid = series.is_not_null().to_numpy()
    kept = np.ones((len(series), 4 + width), np.bool_)
    kept[:, 4:] = valid[:, None]
    return np.hstack([_lengths(np.where(valid, width, -1)), values]), kept


def _wire_values(pair: ColumnPair, series: pl.Series) -> Matrix:
    target = pair.table.type
    if isinstance(pair.dtype, (pl.Datetime, pl.Duration)):
        series = series.dt.cast_time_unit("us")
    zero = False if isinstance(pair.dtype, pl.Boolean) else 0
    numbers = series.to_physical().fill_null(zero).to_numpy()
    if target == "interval":  # microseconds, days, months
        return np.hstack([_bytes(numbers, ">i8"), np.zeros((len(series), 8), np.uint8)])
    if target == "date":
        numbers = numbers - _EPOCH_DAYS
    elif isinstance(pair.dtype, pl.Datetime):
        numbers = numbers - _EPOCH_MICROS
    elif target == "time":
        numbers = numbers // 1_000
    return _bytes(numbers, _WIRE[target])


def _bytes(numbers: npt.NDArray[np.generic], wire: str) -> Matrix:
    """Each number's bytes on the wire, shape (rows, width)."""
    return np.ascontiguousarray(numbers.astype(wire)).view(np.uint8).reshape(len(numbers), -1)


def _lengths(lengths: npt.NDArray[np.int64]) -> Matrix:
    return _bytes(lengths, ">i4")


def _prefix(pair: ColumnPair, series: pl.Series) -> tuple[Matrix, Mask | None]:
    """What stands before a text: its length, and jsonb's version byte."""
    lead = 1 if pair.table.type == "jsonb" else 0
    sizes = series.bin.size().cast(pl.Int64) + lead
    lengths = _lengths(sizes.fill_null(-1).to_numpy())
    if not lead:
        return lengths, None
    prefix = np.hstack([lengths, np.ones((len(series), 1), np.uint8)])
    kept = np.ones(prefix.shape, np.bool_)
    kept[:, 4] = series.is_not_null().to_numpy()
    return prefix, kept


def _as_bytes(pair: ColumnPair, series: pl.Series) -> pl.Series:
    name, dtype = series.name, pair.dtype
    if isinstance(dtype, pl.Binary):
        return series
    text = as_json(name, dtype) if dtype.is_nested() else pl.col(name).cast(pl.String)
    return series.to_frame().select(text.cast(pl.Binary)).to_series()


def _as_text(pair: ColumnPair) -> pl.Expr:
    """The column as the server's input functions read it."""
    name, dtype = pair.table.name, pair.dtype
    column = pl.col(name)
    if isinstance(dtype, pl.Binary):
        return ("\\x" + column.bin.encode("hex")).alias(name)
    if isinstance(dtype, pl.Duration):
        return (column.dt.total_microseconds().cast(pl.String) + " microseconds").alias(name)
    if isinstance(dtype, (pl.Datetime, pl.Time)):  # as in the binary form: in UTC, cut and not rounded
        utc = column.dt.convert_time_zone("UTC") if getattr(dtype, "time_zone", None) else column
        return utc.dt.to_string(_TIME if isinstance(dtype, pl.Time) else f"{_DAY}T{_TIME}+00")
    return as_json(name, dtype) if dtype.is_nested() else column


def _interleave(columns: list[pa.Array]) -> bytes:
    """Row 0 of each column, then row 1 of each, …: the bytes of all."""
    if len(columns) == 1:
        (joined,) = columns
    else:
        joined = pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))
    ends = np.frombuffer(joined.buffers()[1], np.int64)
    return memoryview(joined.buffers()[2])[: int(ends[len(joined)])].tobytes()
