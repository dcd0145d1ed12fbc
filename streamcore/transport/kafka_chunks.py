"""Chunks of Kafka record batches, parsed on demand, and the hook that takes them whole from aiokafka.

aiokafka's fetcher makes one Python object a record and hands them out one by one. :func:`fetch_whole`
keeps its logic (positions, CRC, aborted transactions, control batches) and lets it work on record
batches instead: what comes out of ``fetched_records`` for a chunked topic is a list of
:class:`WholeBatch`, of which a :class:`KafkaChunk` is made.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol, TypeGuard

import numpy as np
import polars as pl
from aiokafka.consumer.fetcher import FetchRequest, FetchResult
from aiokafka.structs import ConsumerRecord, TopicPartition

from streamcore.batch import OFFSET, SUB, Chunk, Int64s, Original, PartitionId, RecordChunk, Rejects
from streamcore.transport.chunk_groups import GROUP_BYTES
from streamcore.transport.whole_batches import Unreadable, WholeBatch, split_batches

CHUNK_BYTES = 4 << 20
"""Unpacked size at which a fetch is cut into several chunks."""

_value, _key, _timestamp = attrgetter("value"), attrgetter("key"), attrgetter("timestamp")
_offset, _headers = attrgetter("offset"), attrgetter("headers")


class KafkaChunk(Chunk):
    """Records of one fetch, ``[first, end)``; nothing is parsed before it is first asked for.

    The batches stay as they were fetched (compressed), so that keys and headers need not be kept for
    chunks where nobody asks. A batch that can't be read is one reject, at its first offset, with the
    batch itself as the original: its records can't be told apart.
    """

    __slots__ = ("_batches", "_header_cache", "_keys", "_offsets", "_rejects", "_unreadable", "_values")

    def __init__(self, source: PartitionId, first: int, end: int, batches: Sequence[WholeBatch]) -> None:
        self._batches = list(batches)
        self._values: list[bytes | None] | None = None
        self._keys: list[bytes | None] | None = None
        self._offsets: Int64s | None = None
        self._unreadable: dict[int, WholeBatch] = {}
        self._header_cache: tuple[int, dict[int, tuple[tuple[str, bytes], ...]]] | None = None
        super().__init__(source, first, end, nbytes=sum(len(b.data) + b.unpacked for b in batches))

    def __len__(self) -> int:
        return len(self.values())

    def values(self) -> list[bytes | None]:
        if self._values is None:
            self._read()
        assert self._values is not None
        return self._values

    @property
    def rejects(self) -> Rejects:
        """The batches that can't be read."""
        self.values()
        return self._rejects

    @rejects.setter
    def rejects(self, rejects: Rejects) -> None:
        self._rejects = rejects

    def offsets(self) -> Int64s:
        if self._offsets is None:
            self.values()
            parts = [
                np.arange(b.base, b.base + b.count, dtype=np.int64)
                if b.dense
                else np.fromiter(map(_offset, b.records()), np.int64, b.count)
                for b in self._batches
            ]
            self._offsets = self._from_first(np.concatenate(parts) if parts else np.empty(0, np.int64))
        return self._offsets

    def keys(self) -> list[bytes | None]:
        if self._keys is None:
            own = len(self)
            keys = [key for batch in self._batches for key in map(_key, batch.records())]
            self._keys = keys[len(keys) - own :]
        return self._keys

    def timestamps(self) -> Int64s:
        own = len(self)
        parts = [
            np.full(b.count, b.last_time, np.int64)
            if b.one_time
            else np.fromiter(map(_timestamp, b.records()), np.int64, b.count)
            for b in self._batches
        ]
        every = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return every[len(every) - own :]

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        if offset in self._unreadable:
            return ()
        at = bisect_right([b.base for b in self._batches], offset) - 1
        if self._header_cache is None or self._header_cache[0] != at:
            parsed = {
                _offset(record): tuple((name, value or b"") for name, value in _headers(record))
                for record in self._batches[at].records()
            }
            self._header_cache = (at, parsed)
        return self._header_cache[1][offset]

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`; for a batch that can't be read the batch as it was fetched."""
        batch = self._unreadable.get(offset)
        return super().original(offset) if batch is None else Original(batch.data, "bytes")

    def _read(self) -> None:
        values: list[bytes | None] = []
        readable: list[WholeBatch] = []
        rejects: list[Rejects] = []
        for batch in self._batches:
            try:
                values += list(map(_value, batch.records()))
                readable.append(batch)
            except Unreadable as error:
                rejects.append(self._refuse(batch, error.code, error.message))
            except Exception as error:  # noqa: BLE001 - of bytes that no client of ours wrote, whatever it is
                rejects.append(self._refuse(batch, "corrupt", f"{type(error).__name__} when it was read"))
        self._batches, self._rejects = readable, Rejects.join(rejects)
        early = bool(readable) and readable[0].base < self.first
        self._values = values
        if early:
            self._values = values[len(values) - len(self.offsets()) :]

    def _refuse(self, batch: WholeBatch, code: str, message: str) -> Rejects:
        at = max(batch.base, self.first)
        self._unreadable[at] = batch
        row = pl.DataFrame({OFFSET: [at], SUB: [0]}, schema={OFFSET: pl.Int64, SUB: pl.UInt32})
        what = f"the record batch of offsets {batch.base} to {batch.last}, {batch.count} records: {message}"
        return Rejects.of(row, "read", code, what)

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


class _Sends(Protocol):
    """What we touch of aiokafka's client."""

    async def send(self, node_id: int, request: object, **options: object) -> Any: ...


class _Client:
    """The fetcher's client, which remembers the bytes of the fetch responses that pass."""

    def __init__(self, client: _Sends) -> None:
        self._client = client
        self.fetched: dict[TopicPartition, bytes] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: object, **options: object) -> object:
        response = await self._client.send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            for topic, partitions in response.topics:
                for partition in partitions:
                    self.fetched[TopicPartition(topic, partition[0])] = partition[-1]
        return response


FETCHER_NAMES = (
    "_client", "_create_fetch_waiter", "_fetch_waiters", "_notify", "_proc_fetch_request", "_records",
    "_wait_consume_future",
)  # fmt: skip


class _Fetcher(Protocol):
    """What we touch of aiokafka's fetcher."""

    _client: _Sends
    _create_fetch_waiter: Callable[[], asyncio.Future[None]]
    _fetch_waiters: Collection[asyncio.Future[None]]
    _notify: Callable[[asyncio.Future[None] | None], None]
    _proc_fetch_request: Callable[[object, int, FetchRequest], Awaitable[bool]]
    _records: Mapping[TopicPartition, object]
    _wait_consume_future: asyncio.Future[None] | None


def _is_fetcher(found: object) -> TypeGuard[_Fetcher]:
    return all(hasattr(found, name) for name in FETCHER_NAMES)


def fetch_whole(
    fetcher: object, is_chunked: Callable[[str], bool], demand: asyncio.Event | None = None
) -> bool:
    """Make aiokafka's *fetcher* hand out :class:`WholeBatch` for chunked topics.

    With *demand*: after a little response of chunked topics the broker is asked again only once that is
    set. What is fetched ahead would be the few records of the next moment, growing old in the buffer while
    the rest waits for the fetch after that; and this thread would be at work on the next request just when
    what has come is to be handed on.
    False, and nothing is changed, when this aiokafka does not have the private names.
    """
    if not _is_fetcher(fetcher):
        return False
    process, tell, client = fetcher._proc_fetch_request, fetcher._notify, _Client(fetcher._client)
    held: set[int] = set()

    async def process_in_batches(assignment: object, node_id: int, request: FetchRequest) -> bool:
        found: bool = await process(assignment, node_id, request)
        # Nothing has run since the response came in: what is in _records is this response's.
        results = {tp: fetcher._records[tp] for tp in _partitions(request) if tp in fetcher._records}
        size, other = 0, not results
        for tp, result in results.items():
            data = client.fetched.get(tp)
            if data and type(result) is FetchResult and is_chunked(tp.topic):
                _use_batches(result, data)
                size += len(data)
            else:
                other = True
        client.fetched.clear()
        if demand is None or other or size >= GROUP_BYTES:
            return found
        return await hold(demand, node_id)

    async def hold(demand: asyncio.Event, node_id: int) -> bool:
        demand.clear()
        for waiter in fetcher._fetch_waiters:  # as its routine does when this returns
            tell(waiter)
        held.add(node_id)
        try:
            await demand.wait()
        except asyncio.CancelledError:  # aiokafka awaits what it has cancelled
            return False
        finally:
            held.discard(node_id)
        return True

    def notify(waiting: asyncio.Future[None] | None) -> None:
        if not held or waiting is not fetcher._wait_consume_future:  # the routine goes on by itself then
            tell(waiting)

    fetcher._client, fetcher._notify = client, notify
    fetcher._proc_fetch_request = process_in_batches
    return True


async def arrival(fetcher: _Fetcher, until: float) -> None:
    """Return when *fetcher* has got something, or the loop's time is *until*; raises what ends its work.

    In place of its own wait, whose turns of the loop are felt where rows are few.
    """
    arrived = fetcher._create_fetch_waiter()
    timer = asyncio.get_running_loop().call_at(until, fetcher._notify, arrived)
    try:
        await arrived
    finally:
        timer.cancel()


def _partitions(request: FetchRequest) -> Collection[TopicPartition]:
    return [TopicPartition(topic, part[0]) for topic, parts in request.topics for part in parts]


def _use_batches(result: FetchResult, data: bytes) -> None:
    records, batches = result._partition_records, split_batches(data)
    if records is not None and batches is not None:
        records._records = _Batches(batches)
        records._consumer_record = lambda tp, batch: batch
