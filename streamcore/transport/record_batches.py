"""Kafka record batches (v2) from columns: no Python object a record.

A record on the wire is ``size 0 time-delta offset-delta key-size key value-size value headers``, all
numbers as zigzag varints. The varints of many records are made together as a matrix of bytes of which
each row keeps a part, and one Arrow kernel joins them with the keys, values and headers. Compression
is zstd at level 1: on JSON rows half the bytes of level -3, which packs a third faster.

Format: https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from streamcore.batch import Int64s
from streamcore.contracts import Records

BATCH_BYTES = 4_000_000
"""Uncompressed size at which a batch is cut. An idempotent producer has one batch a partition on its way."""
MESSAGE_BYTES = 1_000_000
"""Compressed size above which a batch is cut again: below Kafka's default max.message.bytes of 1,048,588."""
_CODEC = pa.Codec("zstd", compression_level=1)
_ZSTD = 4
_TRANSACTIONAL = 0x10
_BEFORE_CRC = struct.Struct(">qiibI")  # base offset, length, leader epoch, magic, crc
_AFTER_CRC = struct.Struct(">hiqqqhii")  # attributes, last delta, times, producer id, epoch, sequence, count
_LENGTH_EXTRA = 9  # leader epoch, magic and crc are counted by the length field
_MOST_VARINTS = 25  # bytes of a record's numbers at the worst, when batches are cut
_MOST_VARINT = 5  # and of a size
_NOTHING = pa.scalar(b"", pa.binary())

Bytes: TypeAlias = npt.NDArray[np.uint8]
Numbers: TypeAlias = "npt.NDArray[np.unsignedinteger | np.signedinteger]"


# ---------------------------------------------------------------- columns


def indices(order: Int64s) -> pa.Int64Array:
    """*order* as an Arrow array, without pa.array(), whose first call imports pandas (a second)."""
    return pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])


def _offsets(column: pa.BinaryArray) -> npt.NDArray[np.int32]:
    whole = np.frombuffer(column.buffers()[1], np.int32)
    return whole[column.offset : column.offset + len(column) + 1]


def _sizes(column: pa.BinaryArray) -> Int64s:
    """Length of each value in bytes, -1 for nulls."""
    if not len(column):
        return np.empty(0, np.int64)
    sizes = np.diff(_offsets(column)).astype(np.int64)
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


# ---------------------------------------------------------------- one batch


def _tail(records: Records) -> tuple[list[pa.Scalar | pa.BinaryArray], Int64s | int]:
    """The headers as columns to join, and their length a record."""
    fixed = bytearray(_varint(len(records.headers)))
    parts: list[pa.Scalar | pa.BinaryArray] = []
    lengths: Int64s | int = 0
    for name, value in records.headers:
        fixed += _varint(len(name.encode())) + name.encode()
        if isinstance(value, bytes):
            fixed += _varint(len(value)) + value
            continue
        sizes = _sizes(value)
        if len(sizes) and (sizes == sizes[0]).all() and sizes[0] >= 0:
            fixed += _varint(int(sizes[0]))
            columns = [value]
        else:
            columns = [_varint_rows([sizes]), _without_nulls(value)]
        lengths = lengths + len(fixed) + sum(np.maximum(_sizes(c), 0) for c in columns)
        parts += [pa.scalar(bytes(fixed), pa.binary()), *columns]
        fixed.clear()
    if fixed:
        parts.append(pa.scalar(bytes(fixed), pa.binary()))
    return parts, lengths + len(fixed)


def _without_nulls(column: pa.BinaryArray) -> pa.BinaryArray:
    return column.fill_null(b"") if column.null_count else column


def _bodies(records: Records, starts: Int64s, first_times: Int64s) -> list[memoryview]:
    """The records of the batches that begin at *starts*, uncompressed: all made in one go."""
    counts = np.diff(starts, append=len(records))
    tail, tail_size = _tail(records)
    times = records.timestamps - np.repeat(first_times, counts)
    deltas = np.arange(len(records), dtype=np.int64) - np.repeat(starts, counts)
    value_sizes = _sizes(records.values)
    numbers = [times, deltas, _key_sizes(records), value_sizes]
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
    every, ends = memoryview(joined.buffers()[2]), _offsets(joined)
    return [
        every[ends[start] : ends[start + count]] for start, count in zip(starts.tolist(), counts, strict=True)
    ]


def _key_sizes(records: Records) -> Int64s:
    if records.keys is None:
        return np.full(len(records), -1, np.int64)
    return _sizes(records.keys)


class PrebuiltBatch(BatchBuilder):  # type: ignore[misc]
    """A finished batch for ``AIOKafkaProducer.send_batch``: *count* records, whose uncompressed *body* is.

    The producer sets its id and sequence when it takes the batch; only then the header is made.
    ``transactional``: for a producer with a transactional id.
    """

    transactional = False

    def __init__(self, body: memoryview, count: int, first_time: int, last_time: int) -> None:
        self._count, self._first_time, self._last_time = count, first_time, last_time
        self._compressed: bytes = _CODEC.compress(body, asbytes=True)
        self._producer = (-1, -1, -1)
        self._buffer: bytes | None = None
        self._closed = True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:
            attributes = _ZSTD | (_TRANSACTIONAL if self.transactional else 0)
            after = _AFTER_CRC.pack(
                attributes, self._count - 1, self._first_time, self._last_time, *self._producer, self._count
            )
            rest = after + self._compressed
            before = _BEFORE_CRC.pack(0, len(rest) + _LENGTH_EXTRA, -1, 2, calc_crc32c(rest))
            self._buffer = before + rest
        return self._buffer

    def size(self) -> int:
        """Bytes on the wire."""
        return len(self._compressed) + _BEFORE_CRC.size + _AFTER_CRC.size

    def record_count(self) -> int:
        """Number of records."""
        return self._count


# ---------------------------------------------------------------- partitions


def murmur2(keys: pa.BinaryArray) -> npt.NDArray[np.uint32]:
    """Kafka's hash of each key (nulls as empty); equal to ``org.apache.kafka.common.utils.Utils.murmur2``."""
    rows = len(keys)
    if not rows:
        return np.empty(0, np.uint32)
    ends = _offsets(keys)
    data = np.frombuffer(keys.buffers()[2] or b"", np.uint8)
    starts, sizes = ends[:-1], np.diff(ends)
    out = np.empty(rows, np.uint32)
    with np.errstate(over="ignore"):
        for size in np.unique(sizes):
            places = np.flatnonzero(sizes == size)
            out[places] = _murmur2_of_size(data, starts[places], int(size))
    return out


def _murmur2_of_size(data: Bytes, starts: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.uint32]:
    m = np.uint32(0x5BD1E995)
    shifts = [np.uint32(s) for s in (0, 8, 16, 24)]
    h = np.full(len(starts), np.uint32(0x9747B28C) ^ np.uint32(size), np.uint32)
    for word in range(0, size - 3, 4):
        k = data[starts + word].astype(np.uint32)
        for i in (1, 2, 3):
            k |= data[starts + word + i].astype(np.uint32) << shifts[i]
        k *= m
        k ^= k >> np.uint32(24)
        k *= m
        h *= m
        h ^= k
    left = size % 4
    for i in range(left - 1, -1, -1):
        h ^= data[starts + (size - left + i)].astype(np.uint32) << shifts[i]
    if left:
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


def partition_of(keys: pa.BinaryArray, partitions: int, keyless: int) -> npt.NDArray[np.int32]:
    """The partition of each key as Kafka's clients choose it; *keyless* for null keys."""
    hashed = murmur2(keys) & np.uint32(0x7FFFFFFF)
    chosen: npt.NDArray[np.int32] = (hashed % np.uint32(partitions)).astype(np.int32)
    if keys.null_count:
        chosen[pc.is_null(keys).to_numpy(zero_copy_only=False)] = keyless
    return chosen


def by_partition(records: Records, partitions: int, keyless: int) -> Iterator[tuple[int, Records]]:
    """*records* sorted to their partitions, in order; *keyless* takes those without key or partition."""
    ordered, pieces = _in_order(records, partitions, keyless)
    for partition, start, end in pieces:
        yield partition, _slice(ordered, start, end)


def batches(records: Records, partitions: int, keyless: int) -> Iterator[tuple[int, PrebuiltBatch]]:
    """*records* as batches of their partitions (as :func:`by_partition`), below the broker's limit.

    A record above the limit goes alone.
    """
    ordered, pieces = _in_order(records, partitions, keyless)
    for group in _groups(ordered, pieces):
        first, end = group[0].start, group[-1].end
        starts = np.array([piece.start - first for piece in group], np.int64)
        packed = _pack(_slice(ordered, first, end), starts)
        for piece, batch in zip(group, packed, strict=True):
            yield from ((piece.partition, b) for b in _below_limit(batch, ordered, piece.start, piece.end))


class _Piece(NamedTuple):
    """Records ``[start, end)`` of those in order, all of one partition."""

    partition: int
    start: int
    end: int


def _in_order(records: Records, partitions: int, keyless: int) -> tuple[Records, list[_Piece]]:
    """*records* sorted by partition, and where each partition's are."""
    chosen = records.partitions
    if chosen is None and records.keys is not None:
        chosen = partition_of(records.keys, partitions, keyless)
    if chosen is None or not len(records):
        return records, [_Piece(keyless, 0, len(records))] if len(records) else []
    # One byte a record sorts by radix, ten times faster.
    order = np.argsort(chosen.astype(np.uint8) if partitions <= 256 else chosen, kind="stable")
    ends = np.cumsum(np.bincount(chosen, minlength=partitions)).tolist()
    pieces = map(_Piece, range(partitions), [0, *ends[:-1]], ends)
    return _take(records, order), [piece for piece in pieces if piece.end > piece.start]


def _groups(records: Records, pieces: list[_Piece]) -> list[list[_Piece]]:
    """*pieces* cut to BATCH_BYTES at most, those together that are no larger in all."""
    if not pieces or _most_bytes(records) <= BATCH_BYTES:
        return [pieces] if pieces else []
    sizes = np.maximum(_sizes(records.values), 0) + np.maximum(_key_sizes(records), 0)
    ends = np.cumsum(sizes + _tail(records)[1] + _MOST_VARINTS)
    groups: list[list[_Piece]] = []
    room = -1
    for partition, start, end in pieces:
        while start < end:
            before = int(ends[start - 1]) if start else 0
            cut = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
            cut = min(end, max(start + 1, cut))
            if int(ends[cut - 1]) > room:
                groups.append([])
                room = before + BATCH_BYTES
            groups[-1].append(_Piece(partition, start, cut))
            start = cut
    return groups


def _pack(records: Records, starts: Int64s) -> list[PrebuiltBatch]:
    """The batches that begin at *starts*."""
    first_times = np.minimum.reduceat(records.timestamps, starts)
    last_times = np.maximum.reduceat(records.timestamps, starts)
    counts = np.diff(starts, append=len(records))
    bodies = _bodies(records, starts, first_times)
    columns = (counts.tolist(), first_times.tolist(), last_times.tolist())
    return list(map(PrebuiltBatch, bodies, *columns))


def _below_limit(batch: PrebuiltBatch, records: Records, start: int, end: int) -> Iterator[PrebuiltBatch]:
    """*batch* of records ``[start, end)``, or several where it does not compress below the broker's limit."""
    if batch.size() <= MESSAGE_BYTES or end - start == 1:
        yield batch
        return
    step = max(1, (end - start) * MESSAGE_BYTES * 9 // (batch.size() * 10))
    for first in range(start, end, step):
        last = min(first + step, end)
        (part,) = _pack(_slice(records, first, last), np.zeros(1, np.int64))
        yield from _below_limit(part, records, first, last)


def _take(records: Records, order: Int64s) -> Records:
    at = indices(order)
    return replace(
        records,
        values=records.values.take(at),
        keys=None if records.keys is None else records.keys.take(at),
        timestamps=records.timestamps[order],
        partitions=None,
        headers=tuple((n, v if isinstance(v, bytes) else v.take(at)) for n, v in records.headers),
    )


def _slice(records: Records, start: int, end: int) -> Records:
    if start == 0 and end == len(records):
        return records
    return replace(
        records,
        values=records.values[start:end],
        keys=None if records.keys is None else records.keys[start:end],
        timestamps=records.timestamps[start:end],
        partitions=None,
        headers=tuple((n, v if isinstance(v, bytes) else v[start:end]) for n, v in records.headers),
    )


def _most_bytes(records: Records) -> int:
    """No fewer bytes than the records of a batch take, without a look at each."""
    size = len(records) * (_MOST_VARINTS + _MOST_VARINT)  # their numbers, and how many headers
    columns = [records.values, *([] if records.keys is None else [records.keys])]
    for name, value in records.headers:
        fixed = len(name.encode()) + (len(value) if isinstance(value, bytes) else 0)
        size += len(records) * (fixed + 2 * _MOST_VARINT)
        columns += [] if isinstance(value, bytes) else [value]
    return size + sum(int(ends[-1] - ends[0]) for ends in map(_offsets, columns))
