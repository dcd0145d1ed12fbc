"""The records of record batches (v2) from columns: no Python object a record.

A record on the wire is ``size 0 time-delta offset-delta key-size key value-size value headers``, all
numbers as zigzag varints. The varints of many records are made together as a matrix of bytes of which
each row keeps a part, and one Arrow kernel joins them with the keys, values and headers.

Format: https://kafka.apache.org/documentation/#record
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import Int64s
from streamcore.contracts import Records
from streamcore.transport.partitioning import offsets_of

Numbers: TypeAlias = "npt.NDArray[np.unsignedinteger | np.signedinteger]"
MOST_VARINTS = 25  # bytes of a record's numbers at the worst
_MOST_VARINT = 5  # and of a size
_NOTHING = pa.scalar(b"", pa.binary())


def sizes_of(column: pa.BinaryArray) -> Int64s:
    """Length of each value in bytes, -1 for nulls."""
    if not len(column):
        return np.empty(0, np.int64)
    sizes = np.diff(offsets_of(column)).astype(np.int64)
    if column.null_count:
        sizes[pc.is_null(column).to_numpy(zero_copy_only=False)] = -1
    return sizes


def _zigzag(column: Int64s) -> Numbers:
    folded = (column << 1) ^ (column >> 63)
    return folded.astype(np.uint32 if int(folded.max(initial=0)) >> 32 == 0 else np.uint64)


def _varint_widths(column: Int64s) -> Int64s | int:
    """Bytes that each number takes as a zigzag varint."""
    zigzag = _zigzag(column)
    most, bits = int(zigzag.max(initial=0)), 7
    widths: Int64s | int = 1
    while most >> bits:
        widths = widths + (zigzag >= (1 << bits)).astype(np.int64)
        bits += 7
    return widths


def _varint_rows(columns: Sequence[Int64s]) -> pa.BinaryArray:
    """Per row the zigzag varints of *columns* (each >= -1), one after the other."""
    rows = len(columns[0])
    data: list[Numbers] = []
    keep: list[npt.NDArray[np.bool_] | bool] = []
    present: npt.NDArray[np.bool_] | bool
    for column in columns:
        left = _zigzag(column)
        most, present = int(left.max(initial=0)), True
        while most >> 7:
            more = left > 0x7F
            data.append((left & 0x7F) | (more.view(np.uint8) << 7))
            keep.append(present)
            left, present, most = left >> 7, more, most >> 7
        data.append(left)
        keep.append(present)
    matrix = np.empty((rows, len(data)), np.uint8)
    kept = np.empty((rows, len(data)), np.bool_)
    offsets = np.zeros(rows + 1, np.int32)
    for place, (byte, present) in enumerate(zip(data, keep, strict=True)):
        matrix[:, place], kept[:, place] = byte, present
        offsets[1:] += present
    np.cumsum(offsets, out=offsets)
    every = int(offsets[-1]) == matrix.size
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(matrix if every else matrix[kept])]
    return pa.Array.from_buffers(pa.binary(), rows, buffers)


def _varint(number: int) -> bytes:
    left, out = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        out.append((left & 0x7F) | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def tail_of(records: Records) -> tuple[list[pa.Scalar | pa.BinaryArray], Int64s | int]:
    """The headers as columns to join, and their length a record."""
    fixed = bytearray(_varint(len(records.headers)))
    parts: list[pa.Scalar | pa.BinaryArray] = []
    lengths: Int64s | int = 0
    for name, value in records.headers:
        fixed += _varint(len(name.encode())) + name.encode()
        if isinstance(value, bytes):
            fixed += _varint(len(value)) + value
            continue
        sizes = sizes_of(value)
        if len(sizes) and (sizes == sizes[0]).all() and sizes[0] >= 0:
            fixed += _varint(int(sizes[0]))
            columns = [value]
        else:
            columns = [_varint_rows([sizes]), _without_nulls(value)]
        lengths = lengths + len(fixed) + sum(np.maximum(sizes_of(c), 0) for c in columns)
        parts += [pa.scalar(bytes(fixed), pa.binary()), *columns]
        fixed.clear()
    if fixed:
        parts.append(pa.scalar(bytes(fixed), pa.binary()))
    return parts, lengths + len(fixed)


def _without_nulls(column: pa.BinaryArray) -> pa.BinaryArray:
    return column.fill_null(b"") if column.null_count else column


def bodies(records: Records, starts: Int64s, first_times: Int64s) -> list[memoryview]:
    """The records of the batches that begin at *starts*, uncompressed: all made in one go.

    *first_times*: the time that each batch's ones are told from.
    """
    counts = np.diff(starts, append=len(records))
    tail, tail_size = tail_of(records)
    times = records.timestamps - np.repeat(first_times, counts)
    deltas = np.arange(len(records), dtype=np.int64) - np.repeat(starts, counts)
    value_sizes = sizes_of(records.values)
    numbers = [times, deltas, key_sizes(records), value_sizes]
    size = 1 + tail_size + np.maximum(value_sizes, 0) + np.maximum(numbers[2], 0)
    for column in numbers:
        size += _varint_widths(column)
    attributes = np.zeros(len(records), np.int64)
    head = [size, attributes, *numbers[:3]]
    values = _without_nulls(records.values)
    if records.keys is None:
        parts = [_varint_rows([*head, value_sizes]), values, *tail]
    else:
        parts = [
            _varint_rows(head),
            _without_nulls(records.keys),
            _varint_rows([value_sizes]),
            values,
            *tail,
        ]
    joined = pc.binary_join_element_wise(*parts, _NOTHING)
    every, ends = memoryview(joined.buffers()[2]), offsets_of(joined)
    return [
        every[ends[start] : ends[start + count]] for start, count in zip(starts.tolist(), counts, strict=True)
    ]


def key_sizes(records: Records) -> Int64s:
    """Length of each key in bytes, -1 for none."""
    if records.keys is None:
        return np.full(len(records), -1, np.int64)
    return sizes_of(records.keys)


def most_bytes(records: Records) -> int:
    """No fewer bytes than *records* take in a batch, without a look at each."""
    size = len(records) * (MOST_VARINTS + _MOST_VARINT)  # their numbers, and how many headers
    columns = [records.values, *([] if records.keys is None else [records.keys])]
    for name, value in records.headers:
        fixed = len(name.encode()) + (len(value) if isinstance(value, bytes) else 0)
        size += len(records) * (fixed + 2 * _MOST_VARINT)
        columns += [] if isinstance(value, bytes) else [value]
    return size + sum(int(ends[-1] - ends[0]) for ends in map(offsets_of, columns))
