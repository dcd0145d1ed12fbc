"""The topic sink on a log that the test holds in its hand."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime, timezone

import numpy as np
import polars as pl
import pytest

from streamcore.batch import Batch, FrameChunk, PartitionId, Range, RecordChunk, hide
from streamcore.contracts import FlushReason, Records, Sink, SinkContext, SinkWriter
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sinks.appending import APPEND_ROWS
from streamcore.sinks.topic import Topic
from streamcore.sinks.topic_records import positions

A, B = PartitionId("in", 0, "cluster/uuid"), PartitionId("in", 1, "cluster/uuid")
COLUMNS = pl.Schema({"id": pl.Int64, "who": pl.String})


class HandLog:
    """Keeps what is appended; the test says when it is acknowledged."""

    def __init__(self, topics: tuple[str, ...] = ("out",)) -> None:
        self.topics = set(topics)
        self.appended: list[Records] = []
        self.acks: list[asyncio.Future[None]] = []
        self.made: list[tuple[str, int, Mapping[str, str]]] = []

    async def bounds(self, topic: str) -> Mapping[int, Range]:
        return {0: Range(0, 0)} if topic in self.topics else {}

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        self.made.append((topic, partitions, config))
        return True

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        self.appended.append(records)
        self.acks.append(asyncio.get_running_loop().create_future())
        return self.acks[-1]

    def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        raise NotImplementedError

    async def close(self) -> None: ...


def context(
    log: HandLog,
    columns: pl.Schema = COLUMNS,
    key: tuple[str, ...] = (),
    event_time: str | None = None,
) -> SinkContext:
    async def refuse(batch, rejects):
        raise AssertionError

    return SinkContext(
        topology="t", sink="topic:out", columns=columns, key=key, event_time=event_time,
        clock=lambda: 1_700_000_000.0, owner="w", refuse=refuse, memory_limit=1 << 20,
        crash_point=lambda name: None, log=log,
    )  # fmt: skip


def batch(start: int, count: int, source: PartitionId = A, **columns: object) -> Batch:
    offsets = np.arange(start, start + count, dtype=np.int64)
    keys = [b"k%d" % i for i in offsets]
    chunk = RecordChunk(source, offsets, [b"v"] * count, first=start, end=start + count, keys=keys,
                        timestamps=offsets + 5_000)  # fmt: skip
    frame = pl.DataFrame({"id": offsets, "who": [f"w{i}" for i in offsets], **columns})
    return Batch(hide(frame, offsets), {source: Range(start, start + count)}, chunk)


async def writer(log: HandLog, sink: Topic | None = None, **options):
    live = (sink or Topic("out")).writer(context(log, **options))
    await live.start()
    await live.open({A: 0, B: 0})
    return live


async def send(live: SinkWriter, batch: Batch) -> None:
    """Write *batch* and have it appended by itself."""
    await live.write(batch)
    await live.flush(FlushReason.IDLE)


async def test_rows_become_records_with_key_time_and_where_they_came_from():
    log = HandLog()
    live = await writer(log, Topic("out", key="who"))
    await send(live, batch(7, 2))
    (records,) = log.appended
    assert records.values.to_pylist() == [b'{"id":7,"who":"w7"}', b'{"id":8,"who":"w8"}']
    assert records.keys.to_pylist() == [b"w7", b"w8"]
    assert records.timestamps.tolist() == [5_007, 5_008]
    ((name, column),) = records.headers
    assert name == "sc-position"
    source = hashlib.sha256(b"cluster/uuid/0").digest()[:8]
    assert [struct.unpack(">8sqI", v) for v in column.to_pylist()] == [(source, 7, 0), (source, 8, 0)]


def test_a_source_whose_name_ends_in_zeros_keeps_them():
    frame = hide(pl.DataFrame({"id": [1]}), np.array([5]))
    assert positions(frame, b"abc\0\0\0\0\0").to_pylist() == [b"abc\0\0\0\0\0" + struct.pack(">qI", 5, 0)]


@pytest.mark.parametrize(
    ("sink", "stream_key", "expected"),
    [
        (Topic("out"), ("who",), [b"w1"]),
        (Topic("out", key=["who", "id"]), (), [b"w1|1"]),
        (Topic("out", key="id"), ("who",), [b"1"]),
        (Topic("out"), (), [b"k1"]),
    ],
    ids=["the stream's key", "several columns", "a column of its own", "the source record's key"],
)
async def test_the_key_of_a_record(sink, stream_key, expected):
    log = HandLog()
    live = await writer(log, sink, key=stream_key)
    await send(live, batch(1, 1))
    assert log.appended[0].keys.to_pylist() == expected


async def test_rows_of_a_columnar_source_without_a_key_have_none():
    log = HandLog()
    live = await writer(log)
    frame = pl.DataFrame({"id": [1], "who": ["w"]})
    chunk = FrameChunk(A, np.array([1]), frame, first=1, end=2)
    await send(live, Batch(hide(frame, np.array([1])), {A: Range(1, 2)}, chunk))
    assert log.appended[0].keys is None
    assert log.appended[0].timestamps.tolist() == [1_700_000_000_000]


async def test_the_event_time_is_the_records_time_within_what_kafka_takes():
    """Not before 1970 and not in the future, by the worker's clock; a row without one has now."""
    log = HandLog()
    columns = pl.Schema({**COLUMNS, "at": pl.Datetime("us", "UTC")})
    live = await writer(log, columns=columns, event_time="at")
    days = [datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2023, 1960, 2099)]
    await send(live, batch(0, 4, at=pl.Series([*days, None], dtype=pl.Datetime("us", "UTC"))))
    now = 1_700_000_000_000
    assert log.appended[0].timestamps.tolist() == [1_672_531_200_000, 0, now, now]


async def test_what_waits_goes_as_one_append_and_each_row_keeps_its_own_source():
    log = HandLog()
    live = await writer(log)
    for some in (batch(0, 2), batch(7, 1, B), batch(2, 1)):
        await live.write(some)
    assert log.appended == []
    await live.flush(FlushReason.IDLE)
    (records,) = log.appended
    assert records.values.to_pylist() == [b'{"id":%d,"who":"w%d"}' % (i, i) for i in (0, 1, 7, 2)]
    assert records.keys.to_pylist() == [b"k0", b"k1", b"k7", b"k2"]
    assert records.timestamps.tolist() == [5_000, 5_001, 5_007, 5_002]
    ((_, column),) = records.headers
    a, b = (hashlib.sha256(f"cluster/uuid/{n}".encode()).digest()[:8] for n in (0, 1))
    found = [struct.unpack(">8sqI", v)[:2] for v in column.to_pylist()]
    assert found == [(a, 0), (a, 1), (b, 7), (a, 2)]
    log.acks[0].set_result(None)
    assert await live.flush(FlushReason.IDLE) == {A: 3, B: 8}


async def test_many_rows_do_not_wait_for_a_flush():
    log = HandLog()
    live = await writer(log)
    await live.write(batch(0, 1))
    await live.write(batch(1, APPEND_ROWS - 1))
    assert [len(records) for records in log.appended] == [APPEND_ROWS]


async def test_rows_that_are_held_are_forgotten_with_their_partition():
    log = HandLog()
    live = await writer(log)
    await live.write(batch(0, 1))
    await live.write(batch(0, 1, B))
    await live.release([A])
    await live.flush(FlushReason.IDLE)
    (records,) = log.appended
    assert len(records) == 1
    log.acks[0].set_result(None)
    assert await live.flush(FlushReason.IDLE) == {B: 1}


async def test_only_what_is_acknowledged_is_confirmed_in_order():
    log = HandLog()
    live = await writer(log)
    for start in (0, 10):
        await send(live, batch(start, 10))
    assert await live.flush(FlushReason.IDLE) == {A: 0, B: 0}
    log.acks[1].set_result(None)
    assert await live.flush(FlushReason.TIMER) == {A: 0, B: 0}
    log.acks[0].set_result(None)
    assert await live.flush(FlushReason.IDLE) == {A: 20, B: 0}


async def test_a_batch_without_rows_is_confirmed_behind_those_before_it():
    log = HandLog()
    live = await writer(log)
    await send(live, batch(0, 5))
    await send(live, batch(5, 0))
    empty = batch(5, 5)
    await send(live, empty.with_frame(empty.frame.clear()))
    assert len(log.appended) == 1
    assert (await live.flush(FlushReason.IDLE))[A] == 0
    log.acks[0].set_result(None)
    assert (await live.flush(FlushReason.IDLE))[A] == 10


@pytest.mark.parametrize("reason", [FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE])
async def test_lasting_flushes_wait_for_every_acknowledgement(reason):
    log = HandLog()
    live = await writer(log)
    await send(live, batch(0, 5))
    flush = asyncio.ensure_future(live.flush(reason))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not flush.done()
    log.acks[0].set_result(None)
    assert (await flush)[A] == 5


async def test_after_a_failed_send_nothing_behind_it_is_confirmed_until_all_is_sent_again():
    log = HandLog()
    live = await writer(log)
    for start in (0, 10):
        await send(live, batch(start, 10))
    log.acks[0].set_exception(Transient("lost"))
    log.acks[1].set_result(None)
    with pytest.raises(Transient):
        await live.flush(FlushReason.TIMER)
    assert (await live.flush(FlushReason.IDLE))[A] == 0
    (again,) = log.appended[2:]
    assert again.values.to_pylist() == [b'{"id":%d,"who":"w%d"}' % (i, i) for i in range(20)]
    log.acks[2].set_result(None)
    assert (await live.flush(FlushReason.END))[A] == 20


async def test_a_write_that_raised_is_not_noted_twice():
    log = HandLog()
    live = await writer(log)
    real = log.append

    async def fails(topic, records):
        log.append = real
        raise Transient("full")

    log.append = fails
    many = batch(0, APPEND_ROWS)
    with pytest.raises(Transient):
        await live.write(many)
    await live.write(many)
    log.acks[0].set_result(None)
    assert (await live.flush(FlushReason.END))[A] == APPEND_ROWS
    assert len(log.appended) == 1


async def test_released_partitions_are_forgotten():
    log = HandLog()
    live = await writer(log)
    await send(live, batch(0, 5))
    await send(live, batch(0, 5, B))
    await live.release([A])
    log.acks[1].set_result(None)
    assert await live.flush(FlushReason.END) == {B: 5}


async def test_a_missing_topic_stops_the_start_unless_it_is_to_be_made():
    with pytest.raises(Permanent, match="does not exist; create it, or set create=True"):
        await Topic("gone").writer(context(HandLog())).start()
    log = HandLog()
    await Topic("gone", create=True, partitions=3).writer(context(log)).start()
    assert log.made == [("gone", 3, {"message.timestamp.type": "LogAppendTime"})]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Topic("t", key="whoo").check(COLUMNS), "key column 'whoo'.*did you mean 'who'"),
        (lambda: Topic("t", key="l").check(pl.Schema({"l": pl.List(pl.Int64)})), "'l' can't be a key"),
        (lambda: Topic("t").check(pl.Schema({"o": pl.Object})), "'o' has a type"),
        (lambda: Topic("t", format="jsn"), "unknown format.*did you mean 'json'"),
        (lambda: Topic(""), "needs the name"),
        (lambda: Topic("t", partitions=0), "at least 1"),
    ],
)
def test_a_wrong_description_is_refused_at_load(make, message):
    with pytest.raises(BadConfig, match=message):
        make()


def test_its_description():
    sink = Topic("out")
    assert isinstance(sink, Sink)
    assert (sink.name, sink.topic, sink.abilities.stores_positions) == ("topic:out", "out", False)


async def test_nothing_is_appended_behind_a_failed_batch_before_that_one_is_sent_again():
    log = HandLog()
    live = await writer(log)
    await send(live, batch(0, 1))
    await send(live, batch(1, 1))
    log.acks[1].set_exception(Transient("gone"))  # the first one is still on its way
    with pytest.raises(Transient):
        await live.write(batch(2, 1))
    assert len(log.appended) == 2
    await send(live, batch(2, 1))
    (again,) = log.appended[2:]
    assert again.values.to_pylist() == [b'{"id":%d,"who":"w%d"}' % (i, i) for i in (0, 1, 2)]
    assert await live.flush(FlushReason.IDLE) == {A: 0, B: 0}


async def test_a_flush_that_is_cancelled_leaves_the_appends_alone():
    log = HandLog()
    live = await writer(log)
    await send(live, batch(0, 1))
    flushing = asyncio.ensure_future(live.flush(FlushReason.END))
    await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert not log.acks[0].cancelled()
