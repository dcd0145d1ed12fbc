"""Blocks: what the embedded log stores. A block is some records of one partition as one Arrow record batch.

In memory a block is the batch itself. On disk it is a frame

    magic 4 | length u32 | first offset i64 | count u32 | unsynced u32 | crc32 u32 | Arrow IPC record batch

(little endian). ``unsynced``: so many bytes before it in its file were not durable yet when it was written;
whatever lies before those was, so damage there is no torn write. The crc covers everything but the magic
and itself and is seeded with the topic's id and the partition, so that a frame that strayed into another
log, or that is quoted inside a value, is never taken for a record. Nothing is ever unpickled.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import Chunk, Int64s, PartitionId, RecordChunk
from streamcore.contracts import Header, Records
from streamcore.errors import Permanent

BLOCK_BYTES: Final = 1 << 20
"""Appends are cut into blocks of about this size, so that a read can stop near its limit."""
MAX_BLOCK_BYTES: Final = 1 << 30
ROW_BYTES: Final = 60
"""What a record costs beside its bytes once it is a Python object, for back-pressure."""

_HEADERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
SCHEMA: Final = pa.schema(
    [("key", pa.binary()), ("value", pa.binary()), ("timestamp", pa.int64()), ("headers", _HEADERS)]
)

MAGIC: Final = b"scB\x02"
_FIELDS = struct.Struct("<IqII")  # length, first, count, unsynced: what the crc covers before the payload
_CRC = struct.Struct("<I")
FRAME_HEAD: Final = len(MAGIC) + _FIELDS.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame found in a file: the offsets it holds, its size there, what was not durable before it."""

    first: int
    count: int
    size: int
    unsynced: int


def to_batch(records: Records) -> pa.RecordBatch:
    """*records* in the columns of :data:`SCHEMA`; their ``partitions`` are not looked at."""
    count = len(records)
    return pa.RecordBatch.from_arrays(
        [
            pa.nulls(count, pa.binary()) if records.keys is None else records.keys.cast(pa.binary()),
            records.values.cast(pa.binary()),
            pa.array(records.timestamps, pa.int64()),
            _header_column(records.headers, count),
        ],
        schema=SCHEMA,
    )


def one_record(
    key: bytes | None, value: bytes | None, timestamp: int, headers: Sequence[tuple[str, bytes]]
) -> pa.RecordBatch:
    """A batch of one record, for per-record producers."""
    pairs = [{"name": name, "value": data} for name, data in headers]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([key], pa.binary()),
            pa.array([value], pa.binary()),
            pa.array([timestamp], pa.int64()),
            pa.array([pairs], _HEADERS) if pairs else pa.nulls(1, _HEADERS),
        ],
        schema=SCHEMA,
    )


def _header_column(headers: Sequence[Header], count: int) -> pa.Array:
    if not headers or not count:
        return pa.nulls(count, _HEADERS)
    width = len(headers)
    columns = [pa.repeat(pa.scalar(v, pa.binary()), count) if isinstance(v, bytes) else v for _, v in headers]
    by_row = np.arange(width * count).reshape(width, count).T.ravel()  # header after header -> row after row
    names = pa.array([name for name, _ in headers] * count, pa.string())
    values = pa.concat_arrays([c.cast(pa.binary()) for c in columns]).take(pa.array(by_row))
    pairs = pa.StructArray.from_arrays([names, values], fields=list(_HEADERS.value_type))
    ends = pa.array(np.arange(0, width * (count + 1), width), pa.int32())
    return pa.ListArray.from_arrays(ends, pairs, type=_HEADERS)


def cut(batch: pa.RecordBatch, size: int = BLOCK_BYTES) -> Iterator[pa.RecordBatch]:
    """*batch* in slices of about *size* bytes, at least one record each."""
    if batch.nbytes <= size:
        if batch.num_rows:
            yield batch
        return
    per_row = np.full(batch.num_rows, batch.column("headers").nbytes // batch.num_rows + 16, np.int64)
    for name in ("key", "value"):
        per_row += pc.binary_length(batch.column(name)).fill_null(0).to_numpy(zero_copy_only=False)
    bucket = (np.cumsum(per_row) - 1) // size
    starts = [0, *(np.flatnonzero(np.diff(bucket)) + 1).tolist(), batch.num_rows]
    for start, end in pairwise(starts):
        yield batch.slice(start, end - start)


def seed(source: PartitionId) -> int:
    """The crc's start value in the log of *source*."""
    return zlib.crc32(f"{source.topic_id}/{source.partition}".encode())


def encode(batch: pa.RecordBatch, first: int, start: int, unsynced: int = 0) -> tuple[bytes, memoryview]:
    """The frame of *batch* at offset *first* as head and payload; *start* is the log's :func:`seed`."""
    payload = memoryview(batch.serialize())
    if len(payload) > MAX_BLOCK_BYTES:
        raise Permanent("a record is too large for the log", got=len(payload), allowed=[MAX_BLOCK_BYTES])
    fields = _FIELDS.pack(len(payload), first, batch.num_rows, unsynced)
    return MAGIC + fields + _CRC.pack(zlib.crc32(payload, zlib.crc32(fields, start))), payload


def parse(data: memoryview, at: int, start: int) -> Frame | None:
    """The frame at *at* of *data*, or None when there is no whole and sound one."""
    if len(data) - at < FRAME_HEAD or bytes(data[at : at + len(MAGIC)]) != MAGIC:
        return None
    fields = data[at + len(MAGIC) : at + len(MAGIC) + _FIELDS.size]
    length, first, count, unsynced = _FIELDS.unpack(fields)
    if length > len(data) - at - FRAME_HEAD:
        return None
    (crc,) = _CRC.unpack(data[at + FRAME_HEAD - _CRC.size : at + FRAME_HEAD])
    payload = data[at + FRAME_HEAD : at + FRAME_HEAD + length]
    if zlib.crc32(payload, zlib.crc32(fields, start)) != crc:
        return None
    return Frame(first, count, FRAME_HEAD + length, unsynced)


def decode(data: bytes) -> pa.RecordBatch:
    """The batch of a frame that :func:`parse` found sound."""
    return pa.ipc.read_record_batch(pa.py_buffer(data).slice(FRAME_HEAD), SCHEMA)


class LogChunk(RecordChunk):
    """Consecutive records of the embedded log; Python objects are made only when they are asked for."""

    __slots__ = ("_parts",)

    def __init__(self, source: PartitionId, first: int, parts: Sequence[pa.RecordBatch]) -> None:
        self._parts = parts
        rows = sum(part.num_rows for part in parts)
        size = sum(part.nbytes for part in parts) + ROW_BYTES * rows
        Chunk.__init__(self, source, first, first + rows, nbytes=size)

    def __len__(self) -> int:
        return self.end - self.first

    def offsets(self) -> Int64s:
        return np.arange(self.first, self.end, dtype=np.int64)

    def values(self) -> list[bytes | None]:
        return self._column("value")

    def keys(self) -> list[bytes | None]:
        return self._column("key")

    def timestamps(self) -> Int64s | None:
        return np.concatenate([part.column("timestamp").to_numpy() for part in self._parts])

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        at = offset - self.first
        for part in self._parts:
            if at < part.num_rows:
                pairs = part.column("headers")[at].as_py() or ()
                return tuple((pair["name"], pair["value"]) for pair in pairs)
            at -= part.num_rows
        raise IndexError(offset)

    def _column(self, name: str) -> list[bytes | None]:
        found: list[bytes | None] = []
        for part in self._parts:
            found += part.column(name).to_pylist()
        return found
