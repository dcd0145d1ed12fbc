"""Chunks of Kafka record batches, parsed on demand, and the hook that takes them whole from aiokafka.

aiokafka's fetcher makes one Python object a record and hands them out one by one. :func:`fetch_whole`
keeps its logic (positions, CRC, aborted transactions, control batches) and lets it work on record
batches instead: what comes out of ``fetched_records`` for a chunked topic is a list of
:class:`WholeBatch`, of which a :class:`KafkaChunk` is made.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter

import numpy as np
from aiokafka.consumer.fetcher import FetchRequest, FetchResult
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import ConsumerRecord, TopicPartition

from streamcore.batch import Chunk, Int64s, PartitionId, RecordChunk

# Record batch v2: https://kafka.apache.org/documentation/#recordbatch
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH_AT, _LENGTH_FROM = 8, 12
_LOG_APPEND_TIME = 0x08
_CODEC = 0x07
# A parsed record is a bytes object (33) in a list (8); zstd packs JSON about five times.
_RECORD_OVERHEAD, _UNPACKED = 41, 5
CHUNK_BYTES = 8 << 20
"""Unpacked size, as far as it can be told, at which a fetch is cut into several chunks."""

_value, _key, _timestamp = attrgetter("value"), attrgetter("key"), attrgetter("timestamp")
_offset, _headers = attrgetter("offset"), attrgetter("headers")


class WholeBatch:
    """One record batch as it was fetched.

    For aiokafka's ``PartitionRecords`` it is a batch that yields one record, itself, at its last offset.
    """

    __slots__ = ("_batch", "attributes", "base", "count", "data", "first_time", "last", "last_time")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._batch = DefaultRecordBatch(data)
        fields = _HEADER.unpack_from(data)
        self.base, self.attributes, self.count = fields[0], fields[5], fields[12]
        self.last = self.base + fields[6]
        self.first_time, self.last_time = fields[7], fields[8]

    # What PartitionRecords asks of a batch and of a record.

    producer_id = property(lambda self: self._batch.producer_id)
    base_offset = property(lambda self: self.base)
    next_offset = property(lambda self: self.last + 1)
    offset = property(lambda self: self.last)
    is_control_batch = property(lambda self: self._batch.is_control_batch)
    is_transactional = property(lambda self: self._batch.is_transactional)

    def validate_crc(self) -> bool:
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
    def compressed(self) -> bool:
        return bool(self.attributes & _CODEC)

    @property
    def unpacked(self) -> int:
        """About how many bytes the records take when they are parsed."""
        packed = len(self.data) * (_UNPACKED if self.compressed else 1)
        return packed + int(self.count) * _RECORD_OVERHEAD

    def records(self) -> Iterator[object]:
        """Unpack and parse; nothing of it is kept."""
        parsed: Iterator[object] = iter(DefaultRecordBatch(self.data))
        return parsed


class KafkaChunk(Chunk):
    """Records of one fetch, ``[first, end)``; each column is parsed when it is first asked for.

    The batches stay as they were fetched (compressed), so that keys and headers need not be kept for
    chunks where nobody asks.
    """

    __slots__ = ("_batches", "_header_cache", "_keys", "_length", "_offsets", "_values")

    def __init__(self, source: PartitionId, first: int, end: int, batches: Sequence[WholeBatch]) -> None:
        self._batches = list(batches)
        self._values: list[bytes | None] | None = None
        self._keys: list[bytes | None] | None = None
        self._offsets: Int64s | None = None
        self._header_cache: tuple[int, dict[int, tuple[tuple[str, bytes], ...]]] | None = None
        count = sum(b.count for b in batches)
        nbytes = sum(len(b.data) + b.unpacked for b in batches)
        super().__init__(source, first, end, nbytes=nbytes)
        early = bool(batches) and batches[0].base < first
        self._length = len(self.offsets()) if early else count

    def __len__(self) -> int:
        return self._length

    def offsets(self) -> Int64s:
        if self._offsets is None:
            parts = [
                np.arange(b.base, b.base + b.count, dtype=np.int64)
                if b.dense
                else np.fromiter(map(_offset, b.records()), np.int64, b.count)
                for b in self._batches
            ]
            self._offsets = self._from_first(np.concatenate(parts) if parts else np.empty(0, np.int64))
        return self._offsets

    def values(self) -> list[bytes | None]:
        if self._values is None:
            self._values = self._column(_value)
        return self._values

    def keys(self) -> list[bytes | None]:
        if self._keys is None:
            self._keys = self._column(_key)
        return self._keys

    def timestamps(self) -> Int64s:
        parts = [
            np.full(b.count, b.last_time, np.int64)
            if b.one_time
            else np.fromiter(map(_timestamp, b.records()), np.int64, b.count)
            for b in self._batches
        ]
        every = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return every[len(every) - self._length :]

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        at = bisect_right([b.base for b in self._batches], offset) - 1
        if self._header_cache is None or self._header_cache[0] != at:
            parsed = {
                _offset(record): tuple((name, value or b"") for name, value in _headers(record))
                for record in self._batches[at].records()
            }
            self._header_cache = (at, parsed)
        return self._header_cache[1][offset]

    def _column(self, field: Callable[[object], bytes | None]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for batch in self._batches:
            out += map(field, batch.records())
        return out[len(out) - self._length :] if len(out) != self._length else out

    def _from_first(self, offsets: Int64s) -> Int64s:
        # The broker sends whole batches: the first one may begin before the position asked for.
        return offsets[np.searchsorted(offsets, self.first) :]


def kafka_chunks(
    source: PartitionId, first: int, end: int, batches: Sequence[WholeBatch]
) -> Iterator[KafkaChunk]:
    """*batches* of one fetch, which took the position from *first* to *end*, in chunks of a good size."""
    part: list[WholeBatch] = []
    size = 0
    for batch in batches:
        if part and size + batch.unpacked > CHUNK_BYTES:
            yield KafkaChunk(source, first, part[-1].next_offset, part)
            first, part, size = part[-1].next_offset, [], 0
        part.append(batch)
        size += batch.unpacked
    if part or end > first:
        yield KafkaChunk(source, first, end, part)


def chunk_of_records(
    source: PartitionId, first: int, end: int, records: Sequence[ConsumerRecord]
) -> RecordChunk:
    """The chunk of aiokafka's ordinary records, for the public way of fetching."""
    return RecordChunk(
        source,
        [r.offset for r in records],
        [r.value for r in records],
        first=first,
        end=end,
        keys=[r.key for r in records],
        timestamps=np.fromiter((r.timestamp for r in records), np.int64, len(records)),
        headers=[tuple((name, value or b"") for name, value in r.headers) for r in records],
    )


class _Batches:
    """Stands in for aiokafka's MemoryRecords in a PartitionRecords."""

    __slots__ = ("_left",)

    def __init__(self, batches: list[WholeBatch]) -> None:
        self._left = deque(batches)

    def has_next(self) -> bool:
        return bool(self._left)

    def next_batch(self) -> WholeBatch:
        return self._left.popleft()


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


class _Client:
    """The fetcher's client, which remembers the bytes of the fetch responses that pass."""

    def __init__(self, client: object) -> None:
        self._client = client
        self.fetched: dict[TopicPartition, bytes] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: object, **options: object) -> object:
        response = await self._client.send(node_id, request, **options)  # type: ignore[attr-defined]
        if isinstance(request, FetchRequest):
            for topic, partitions in response.topics:
                for partition in partitions:
                    self.fetched[TopicPartition(topic, partition[0])] = partition[-1]
        return response


FETCHER_NAMES = ("_client", "_proc_fetch_request", "_records")


def fetch_whole(fetcher: object, is_chunked: Callable[[str], bool]) -> bool:
    """Make aiokafka's *fetcher* hand out :class:`WholeBatch` for chunked topics.

    False, and nothing is changed, when this aiokafka does not have the private names.
    """
    if not all(hasattr(fetcher, name) for name in FETCHER_NAMES):
        return False
    process, client = fetcher._proc_fetch_request, _Client(fetcher._client)  # type: ignore[attr-defined]

    async def process_in_batches(assignment: object, node_id: int, request: FetchRequest) -> bool:
        found: bool = await process(assignment, node_id, request)
        # Nothing has run since the response came in: what is in _records is this response's.
        for tp in _partitions(request):
            data = client.fetched.pop(tp, None)
            result = fetcher._records.get(tp)  # type: ignore[attr-defined]
            if data and type(result) is FetchResult and is_chunked(tp.topic):
                _use_batches(result, data)
        return found

    fetcher._client = client  # type: ignore[attr-defined]
    fetcher._proc_fetch_request = process_in_batches  # type: ignore[attr-defined]
    return True


def _partitions(request: FetchRequest) -> Collection[TopicPartition]:
    return [TopicPartition(topic, part[0]) for topic, parts in request.topics for part in parts]


def _use_batches(result: FetchResult, data: bytes) -> None:
    records, batches = result._partition_records, split_batches(data)
    if records is not None and batches is not None:
        records._records = _Batches(batches)
        records._consumer_record = lambda tp, batch: batch
