"""Kafka record batches as they were fetched, unpacked and parsed on demand.

Batches are unpacked by pyarrow, three times faster than aiokafka does it. Before that they are measured
in pieces that are thrown away: what a batch takes in memory is known when chunks are cut, and a megabyte
that stands for gigabytes is found out before it has taken them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
from aiokafka.record.default_records import DefaultRecordBatch

# Record batch v2: https://kafka.apache.org/documentation/#recordbatch
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH_AT, _LENGTH_FROM = 8, 12
_ATTRIBUTES, _ATTRIBUTES_AT = struct.Struct(">h"), 21
_LOG_APPEND_TIME = 0x08
_CODEC = 0x07
_STREAMED = {1: "gzip", 3: "lz4", 4: "zstd"}
"""Codecs that can make gigabytes of a megabyte, by aiokafka's numbers and pyarrow's names."""
_SNAPPY_RATIO = 21
"""What Snappy makes of its bytes at most: it is not worth measuring."""
_PIECE = 1 << 20
UNPACKED_BYTES = 128 << 20
"""A batch that unpacks to more than this is a dead letter as a whole."""
_RECORD_OVERHEAD = 41
"""Bytes of a parsed record beside its own: a bytes object (33) in a list (8)."""


class Unreadable(Exception):
    """A batch that can't be unpacked or parsed: code and message of its dead letter."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class WholeBatch:
    """One record batch as it was fetched.

    For aiokafka's ``PartitionRecords`` it is a batch that yields one record, itself, at its last offset.
    """

    __slots__ = ("_batch", "_plain", "attributes", "base", "count", "data", "first_time", "last", "last_time")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._batch = DefaultRecordBatch(data)
        fields = _HEADER.unpack_from(data)
        self.base, self.attributes, self.count = fields[0], fields[5], fields[12]
        self.last = self.base + fields[6]
        self.first_time, self.last_time = fields[7], fields[8]
        self._plain: int | None = None

    # What PartitionRecords asks of a batch and of a record.

    producer_id = property(lambda self: self._batch.producer_id)
    base_offset = property(lambda self: self.base)
    next_offset = property(lambda self: self.last + 1)
    offset = property(lambda self: self.last)
    is_control_batch = property(lambda self: self._batch.is_control_batch)
    is_transactional = property(lambda self: self._batch.is_transactional)

    def validate_crc(self) -> bool:
        """Whether the checksum fits."""
        return bool(self._batch.validate_crc())

    def __next__(self) -> object:  # a control batch is read to see whether it aborts
        return next(self._batch)

    def __iter__(self) -> Iterator[WholeBatch]:
        return iter((self,))

    # What a chunk asks.

    @property
    def dense(self) -> bool:
        """No record was compacted away."""
        return bool(self.count == self.last - self.base + 1)

    @property
    def one_time(self) -> bool:
        """All records have the time ``last_time``."""
        return bool(self.attributes & _LOG_APPEND_TIME) or self.first_time == self.last_time

    @property
    def unpacked(self) -> int:
        """Bytes that the records take when they are parsed; of what will not be unpacked none."""
        plain = self._plain_bytes()
        return 0 if plain > UNPACKED_BYTES else plain + int(self.count) * _RECORD_OVERHEAD

    def records(self) -> Iterator[object]:
        """Unpack and parse; nothing of it is kept. :class:`Unreadable` when it unpacks to too much."""
        if self._plain_bytes() > UNPACKED_BYTES:
            raise Unreadable("too_large", f"it unpacks to more than {UNPACKED_BYTES >> 20} MB")
        streamed = self.attributes & _CODEC in _STREAMED
        parsed: Iterator[object] = iter(DefaultRecordBatch(self._unpack() if streamed else self.data))
        return parsed

    def _plain_bytes(self) -> int:
        """Size of the records before they were compressed; a larger one than allowed is not counted on."""
        if self._plain is None:
            codec = self.attributes & _CODEC
            if codec in _STREAMED:
                self._plain = self._measure()
            else:
                self._plain = len(self.data) * (_SNAPPY_RATIO if codec else 1)
        return self._plain

    def _measure(self) -> int:
        stream, size = self._stream(), 0
        try:
            while size <= UNPACKED_BYTES and (part := stream.read(_PIECE)):
                size += len(part)
        except OSError:  # garbage, as records() will find
            return size
        return size

    def _unpack(self) -> bytearray:
        """The batch as it was before it was compressed."""
        plain = bytearray(_HEADER.size + self._plain_bytes())
        plain[: _HEADER.size] = self.data[: _HEADER.size]
        _ATTRIBUTES.pack_into(plain, _ATTRIBUTES_AT, self.attributes & ~_CODEC)
        read = self._stream().readinto(memoryview(plain)[_HEADER.size :])
        if read != self._plain_bytes():  # never seen; the zeros behind it would be read as records
            raise Unreadable("corrupt", f"it unpacks to {read} bytes, measured were {self._plain_bytes()}")
        return plain

    def _stream(self) -> pa.NativeFile:
        packed = pa.BufferReader(pa.py_buffer(self.data)[_HEADER.size :])
        return pa.CompressedInputStream(packed, _STREAMED[self.attributes & _CODEC])


def split_batches(data: bytes) -> list[WholeBatch] | None:
    """The whole record batches in *data*; None when one is of a format before v2 (Kafka 0.10)."""
    batches = []
    at, size = 0, len(data)
    while at + _HEADER.size <= size:
        end = at + _LENGTH_FROM + int.from_bytes(data[at + _LENGTH_AT : at + _LENGTH_FROM], "big")
        if end > size:
            break  # the broker cuts the last batch at the fetch size
        if data[at + 16] != 2:
            return None
        batches.append(WholeBatch(data[at:end]))
        at = end
    return batches
