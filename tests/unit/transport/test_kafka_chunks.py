"""Chunks of record batches: columns, holes, fetches that begin inside a batch, and cutting."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from unittest.mock import AsyncMock

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamcore.batch import Original, PartitionId
from streamcore.contracts import Records
from streamcore.transport import kafka_chunks as module
from streamcore.transport import whole_batches
from streamcore.transport.kafka_chunks import KafkaChunk, kafka_chunks
from streamcore.transport.record_batches import batches
from streamcore.transport.whole_batches import split_batches

SOURCE = PartitionId("t", 0, "c/u")


def batch_bytes(base: int, offsets: list[int], compression: int = 0, last: int | None = None) -> bytes:
    """A record batch at *base* that still has *offsets* and reaches to *last*, as compaction leaves it."""
    producer = {"is_transactional": False, "producer_id": -1, "producer_epoch": -1, "base_sequence": 0}
    builder = DefaultRecordBatchBuilder(2, compression, batch_size=1 << 20, **producer)
    for offset in offsets:
        headers = [("h", b"%d" % offset), ("none", None)]
        value = None if offset % 7 == 0 else b"v%d" % offset
        builder.append(offset - base, 1_000 + offset, b"k%d" % offset, value, headers)
    data = bytearray(builder.build())
    data[0:8] = struct.pack(">q", base)
    data[23:27] = struct.pack(">i", (offsets[-1] if last is None else last) - base)
    data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    return bytes(data)


def check(chunk: KafkaChunk, offsets: list[int]) -> None:
    assert len(chunk) == len(offsets)
    assert chunk.offsets().tolist() == offsets
    assert chunk.values() == [None if o % 7 == 0 else b"v%d" % o for o in offsets]
    assert chunk.keys() == [b"k%d" % o for o in offsets]
    assert chunk.timestamps().tolist() == [1_000 + o for o in offsets]
    for offset in offsets:
        assert chunk.headers(offset) == (("h", b"%d" % offset), ("none", b""))
        assert chunk.original(offset).data == (None if offset % 7 == 0 else b"v%d" % offset)


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=12).filter(any), min_size=1, max_size=6),
    st.integers(0, 11),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.integers(100, 3_000),
)
def test_columns_are_those_of_the_records_however_compacted_and_cut(kept, skip, compression, limit):
    data, offsets, base = b"", [], 50
    for flags in kept:
        own = [base + i for i, flag in enumerate(flags) if flag]
        data += batch_bytes(base, own, compression, last=base + len(flags) - 1)
        offsets += own
        base += len(flags)
    first = 50 + min(skip, len(kept[0]) - 1)
    offsets = [o for o in offsets if o >= first]
    batches = split_batches(data)
    assert batches is not None
    check(KafkaChunk(SOURCE, first, base + 3, batches), offsets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", limit)
        chunks = list(kafka_chunks(SOURCE, first, base + 3, batches))
    assert [c.first for c in chunks] == [first, *(c.end for c in chunks[:-1])]
    assert chunks[-1].end == base + 3
    assert [o for c in chunks for o in c.offsets().tolist()] == offsets
    for chunk in chunks:
        check(chunk, [o for o in offsets if chunk.first <= o < chunk.end])


def test_a_fetch_of_holes_only_is_an_empty_chunk_and_of_nothing_is_none():
    (chunk,) = kafka_chunks(SOURCE, 5, 9, [])
    assert (len(chunk), chunk.covered, chunk.values(), chunk.keys()) == (0, (5, 9), [], [])
    assert chunk.offsets().tolist() == []
    assert chunk.timestamps().tolist() == []
    assert list(kafka_chunks(SOURCE, 5, 5, [])) == []


def test_the_last_batch_is_left_out_when_the_broker_cut_it():
    whole = batch_bytes(0, [0, 1]) + batch_bytes(2, [2])
    for cut in (1, 30, 61, len(batch_bytes(2, [2])) - 1):
        batches = split_batches(whole[: len(batch_bytes(0, [0, 1])) + cut])
        assert batches is not None
        assert [b.base for b in batches] == [0]
    assert split_batches(b"") == []


def test_an_old_format_is_left_to_aiokafka():
    old = bytearray(batch_bytes(0, [0]))
    old[16] = 1
    assert split_batches(bytes(old)) is None


def test_times_of_the_broker_need_no_parsing():
    """LogAppendTime: all records have the batch's last time."""
    data = bytearray(batch_bytes(0, [0, 1, 2]))
    data[22] |= 0x08
    data[35:43] = struct.pack(">q", 99_000)
    (batch,) = split_batches(bytes(data)) or []
    assert batch.one_time
    assert KafkaChunk(SOURCE, 0, 3, [batch]).timestamps().tolist() == [99_000] * 3


def test_memory_is_counted_packed_and_unpacked():
    values = pa.array([b'{"name":"a name that repeats"}'] * 1_000, pa.binary())
    ((_, batch),) = batches(Records(values, np.full(1_000, 5)), 1, 0)
    data = batch._build()
    (batch,) = split_batches(data) or []
    chunk = KafkaChunk(SOURCE, 0, 1_000, [batch])
    assert chunk.nbytes >= len(data) + 41 * 1_000
    assert chunk.timestamps().tolist() == [5] * 1_000


def recompressed(body: bytes, codec: int, count: int = 1) -> bytes:
    """A batch at 0 of which the compressed part is that of *body*."""
    head = bytearray(batch_bytes(0, list(range(1, count + 1)))[:61])
    data = pa.Codec({1: "gzip", 3: "lz4", 4: "zstd"}[codec]).compress(body, asbytes=True)
    struct.pack_into(">h", head, 21, codec)
    struct.pack_into(">i", head, 8, len(head) - 12 + len(data))
    return bytes(head) + data


@pytest.mark.parametrize("codec", [1, 3, 4], ids=["gzip", "lz4", "zstd"])
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\0" * (3 << 20), "too_large"), (b"no records at all", "corrupt")],
    ids=["a bomb", "garbage"],
)
def test_a_batch_that_cannot_be_read_is_one_dead_letter_among_its_neighbours(codec, body, code, monkeypatch):
    monkeypatch.setattr(whole_batches, "UNPACKED_BYTES", 2 << 20)
    bad = bytearray(recompressed(body, codec, count=3))
    struct.pack_into(">q", bad, 0, 10)
    data = batch_bytes(5, [5, 6]) + bytes(bad) + batch_bytes(20, [20, 21], compression=codec)
    chunk = KafkaChunk(SOURCE, 5, 22, split_batches(data) or [])
    assert chunk.rejects.frame.select("_offset", "_sub", "stage", "code").rows() == [(10, 0, "read", code)]
    assert "of offsets 10 to 13, 3 records" in chunk.rejects.frame["message"].item()
    check(chunk, [5, 6, 20, 21])
    assert chunk.original(10) == Original(bytes(bad), "bytes")
    assert chunk.headers(10) == ()


@pytest.mark.parametrize("codec", [1, 3, 4], ids=["gzip", "lz4", "zstd"])
def test_a_fetch_is_cut_by_what_it_unpacks_to(codec):
    """A hundred batches of a few hundred bytes that hold a megabyte each: no chunk has two of them."""
    data = b""
    for base in range(100):
        batch = bytearray(recompressed(b"\0" * (1 << 20), codec))
        struct.pack_into(">q", batch, 0, 2 * base)
        data += bytes(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", 3 << 19)
        chunks = list(kafka_chunks(SOURCE, 0, 200, split_batches(data) or []))
    assert len(data) < 1 << 20
    assert [chunk.first for chunk in chunks] == list(range(0, 200, 2))
    assert all(1 << 20 <= chunk.nbytes < 3 << 19 for chunk in chunks)


def test_a_cut_batch_is_one_dead_letter():
    data = bytearray(batch_bytes(0, [0, 1, 2], compression=4))
    del data[-4:]
    struct.pack_into(">i", data, 8, len(data) - 12)
    chunk = KafkaChunk(SOURCE, 0, 3, split_batches(bytes(data)) or [])
    assert (len(chunk), chunk.rejects.frame["code"].to_list()) == (0, ["corrupt"])


class FakeFetcher:
    """Of aiokafka's fetcher what is touched; a fetch finds *data* in a partition, or *result* at once."""

    def __init__(self, data: bytes = b"", result: object = None) -> None:
        response = SimpleNamespace(topics=[("t", [(0, 0, 0, data)])])
        self._client = SimpleNamespace(send=AsyncMock(return_value=response))
        tp = TopicPartition("t", 0)
        nothing = FetchResult(tp, assignment=None, partition_records=None, backoff=0)
        self._result = nothing if data else result
        self._records: dict[TopicPartition, object] = {}
        self._wait_consume_future = asyncio.get_running_loop().create_future()
        self._fetch_waiters: set[asyncio.Future[None]] = set()
        self.request = module.FetchRequest(500, 1, 1, 0, [("t", [(0, 0, 0)])], rack_id="")

    async def _proc_fetch_request(self, assignment, node_id, request):
        await self._client.send(node_id, request)
        if self._result is not None:
            self._records[TopicPartition("t", 0)] = self._result
        return True

    def _create_fetch_waiter(self):
        waiter = asyncio.get_running_loop().create_future()
        self._fetch_waiters.add(waiter)
        waiter.add_done_callback(self._fetch_waiters.remove)
        return waiter

    def _notify(self, waiting):
        if not waiting.done():
            waiting.set_result(None)

    def begin(self, demand: asyncio.Event | None, chunked: bool = True) -> asyncio.Task[bool]:
        assert module.fetch_whole(self, lambda topic: chunked, demand)
        return asyncio.ensure_future(self._proc_fetch_request(None, 0, self.request))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_few_records_a_broker_is_asked_again_only_on_demand():
    fetcher, demand = FakeFetcher(b"few"), asyncio.Event()
    demand.set()  # who waits for this response has asked for it
    waiter = fetcher._create_fetch_waiter()
    fetching = fetcher.begin(demand)
    await turns()
    assert waiter.done()  # told at once
    assert not fetching.done()
    fetcher._notify(fetcher._wait_consume_future)
    assert not fetcher._wait_consume_future.done()  # the routine has nothing to do before the demand
    demand.set()
    assert await fetching
    fetcher._notify(fetcher._wait_consume_future)
    assert fetcher._wait_consume_future.done()


@pytest.mark.parametrize(
    ("fetcher", "chunked", "demands"),
    [
        (lambda: FakeFetcher(bytes(1 << 20)), True, True),
        (lambda: FakeFetcher(b"few"), False, True),
        (lambda: FakeFetcher(result=object()), True, True),
        (FakeFetcher, True, True),
        (lambda: FakeFetcher(b"few"), True, False),
    ],
    ids=["many", "a topic of records", "an error", "nothing", "no demand"],
)
async def test_after_anything_else_it_is_asked_again_at_once(fetcher, chunked, demands):
    fetching = fetcher().begin(asyncio.Event() if demands else None, chunked)
    await turns()
    assert await asyncio.wait_for(fetching, 0)


async def test_a_fetch_that_is_broken_off_waits_for_no_demand():
    """aiokafka awaits it then, and must not be broken off by that itself."""
    fetcher = FakeFetcher(b"few")
    fetching = fetcher.begin(asyncio.Event())
    await turns()
    fetching.cancel()
    assert not await fetching
    fetcher._notify(fetcher._wait_consume_future)
    assert fetcher._wait_consume_future.done()


async def test_an_arrival_is_waited_for_until_a_time():
    fetcher, time = FakeFetcher(), asyncio.get_running_loop().time
    await module.arrival(fetcher, time())
    waiting = asyncio.ensure_future(module.arrival(fetcher, time() + 60))
    await turns()
    assert not waiting.done()
    (waiter,) = fetcher._fetch_waiters
    waiter.set_exception(KafkaError("not allowed"))
    with pytest.raises(KafkaError):
        await waiting
    assert not fetcher._fetch_waiters
