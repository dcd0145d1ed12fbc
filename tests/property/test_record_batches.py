"""Laws of the record batch encoder: what it writes, aiokafka's own reader reads back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streamcore.contracts import Records
from streamcore.transport import partitioning, record_batches
from streamcore.transport.partitioning import by_partition, murmur2, partition_of
from streamcore.transport.record_batches import FEW, batches
from streamcore.transport.record_bodies import bodies, most_bytes

CELL = st.one_of(st.none(), st.binary(max_size=200), st.binary(min_size=8100, max_size=8300))
KEYED = st.tuples(st.one_of(st.none(), st.binary(max_size=9)), st.binary(max_size=9))
ROW = st.tuples(CELL, CELL, st.integers(0, 2**62), st.one_of(st.none(), st.binary(max_size=70)))
NAMES = st.text(min_size=1, max_size=70).filter(lambda name: name.isprintable())


@pytest.fixture(scope="module", params=[0, FEW], autouse=True, ids=["by columns", "one by one"])
def ways(request):
    """Each law, for the batches that are made of columns and for those of a few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "FEW", request.param)
        yield


def binary(column: list[bytes | None]) -> pa.BinaryArray:
    # A slice, so that an array's offset is never ignored.
    return pa.array([b"before", *column, b"after"], pa.binary())[1 : len(column) + 1]


def read(data: bytes) -> list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    memory, out = MemoryRecords(data), []
    while memory.has_next():
        batch = memory.next_batch()
        assert batch.validate_crc()
        out += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]
    return out


@given(st.lists(ROW, min_size=1, max_size=150), st.booleans(), NAMES, st.binary(max_size=90))
def test_a_batch_reads_back_as_what_went_in(rows, keyed, name, constant):
    values, keys, times, headers = (list(column) for column in zip(*rows, strict=True))
    headers = [h or b"" for h in headers]
    records = Records(
        binary(values),
        np.array(times, np.int64),
        binary(keys) if keyed else None,
        headers=((name, constant), ("h", binary(headers)), ("last", b"")),
    )
    ((_, batch),) = batches(records, 1, 0)
    batch._set_producer_state(7, 3, 11)
    expected = [
        (
            i,
            times[i],
            keys[i] if keyed else None,
            values[i],
            [(name, constant), ("h", headers[i]), ("last", b"")],
        )
        for i in range(len(rows))
    ]
    assert read(batch._build()) == expected
    assert batch.size() == len(batch._build())
    decoded = MemoryRecords(batch._build()).next_batch()
    assert (decoded.producer_id, decoded.producer_epoch, decoded.base_sequence) == (7, 3, 11)


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=60), st.integers(1, 2000))
def test_cutting_into_batches_keeps_every_record_in_order(values, limit):
    records = Records(binary(list(values)), np.arange(len(values), dtype=np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "BATCH_BYTES", limit)
        cut = [batch for _, batch in batches(records, 1, 0)]
    assert [row[3] for batch in cut for row in read(batch._build())] == values
    for batch in cut:
        uncompressed = sum(len(row[3] or b"") for row in read(batch._build()))
        assert batch.record_count() == 1 or uncompressed <= limit


@given(st.lists(st.binary(min_size=50, max_size=600), min_size=1, max_size=60), st.integers(200, 9_000))
def test_what_does_not_compress_is_cut_until_the_broker_takes_it(values, limit):
    records = Records(binary(list(values)), np.arange(len(values), dtype=np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "MESSAGE_BYTES", limit)
        cut = [batch for _, batch in batches(records, 1, 0)]
    assert [row[3] for batch in cut for row in read(batch._build())] == values
    for batch in cut:
        assert batch.record_count() == 1 or batch.size() <= limit


@given(st.lists(ROW, min_size=1, max_size=50), NAMES, st.binary(max_size=90))
def test_the_bound_of_a_batch_is_none_too_small(rows, name, constant):
    values, keys, times, headers = (list(column) for column in zip(*rows, strict=True))
    records = Records(
        binary(values),
        np.array(times, np.int64),
        binary(keys),
        headers=((name, constant), ("h", binary([h or b"" for h in headers]))),
    )
    zero = np.zeros(1, np.int64)
    assert most_bytes(records) >= sum(map(len, bodies(records, zero, np.array([min(times)]))))


@given(st.lists(st.binary(max_size=40)))
def test_murmur2_is_kafkas(keys):
    assert murmur2(binary(list(keys))).tolist() == [reference_murmur2(key) & 0xFFFFFFFF for key in keys]


@given(
    st.lists(st.lists(st.none() | st.binary(max_size=3) | st.binary(min_size=300, max_size=301)), max_size=5)
)
def test_hashes_that_are_kept_are_those_of_their_keys(calls):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioning, "_MOST_KEPT", 8)
        patch.setattr(partitioning, "_kept", {})
        for keys in calls:
            right = [99 if key is None else (reference_murmur2(key) & 0x7FFFFFFF) % 7 for key in keys]
            assert partition_of(binary(keys), 7, 99).tolist() == right
            assert partition_of(binary(keys), 7, 99).tolist() == right
            assert len(partitioning._kept) <= max(8, *map(len, calls), 0)


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.binary(max_size=9)), st.binary(max_size=9))),
    st.integers(1, 300),
)
def test_every_record_goes_to_its_keys_partition_in_order(rows, partitions):
    keys, values = [k for k, _ in rows], [v for _, v in rows]
    records = Records(
        binary(values), np.arange(len(rows), dtype=np.int64), binary(keys), headers=(("h", binary(values)),)
    )
    keyless = partitions - 1
    chosen = partition_of(binary(keys), partitions, keyless).tolist()
    found = dict(by_partition(records, partitions, keyless))
    for partition in range(partitions):
        expected = [(k, v, i) for i, (k, v) in enumerate(rows) if chosen[i] == partition]
        part = found.get(partition)
        assert (part is not None) == bool(expected)
        if part is not None:
            assert part.keys is not None
            got = zip(part.keys.to_pylist(), part.values.to_pylist(), part.timestamps.tolist(), strict=True)
            assert list(got) == expected
            assert part.headers[0][1].to_pylist() == [v for _, v, _ in expected]
    for i, key in enumerate(keys):
        assert chosen[i] == (keyless if key is None else (reference_murmur2(key) & 0x7FFFFFFF) % partitions)


@given(
    st.lists(st.tuples(st.integers(0, 5), CELL, st.integers(0, 2**62)), max_size=80),
    st.integers(100, 9_000),
    st.integers(200, 9_000),
)
def test_batches_of_many_partitions_are_those_of_each(rows, unpacked, packed):
    partitions, values, times = ([row[i] for row in rows] for i in range(3))
    records = Records(
        binary(values),
        np.array(times, np.int64),
        partitions=np.array(partitions, np.int32),
        headers=(("h", binary([str(time).encode() for time in times])),),
    )
    found: dict[int, list[object]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "BATCH_BYTES", unpacked)
        patch.setattr(record_batches, "MESSAGE_BYTES", packed)
        for partition, batch in batches(records, 6, 0):
            assert batch.record_count() == 1 or batch.size() <= packed
            got = read(batch._build())
            assert [row[0] for row in got] == list(range(batch.record_count()))
            found.setdefault(partition, []).extend((time, value) for _, time, _, value, _ in got)
            assert all(headers == [("h", str(time).encode())] for _, time, _, _, headers in got)
    for partition in range(6):
        wanted = [(time, value) for at, value, time in rows if at == partition]
        assert found.get(partition, []) == wanted


def test_known_hashes_of_the_java_client():
    # From org.apache.kafka.common.utils.UtilsTest.testMurmur2.
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert murmur2(binary(list(known))).astype(np.int32).tolist() == list(known.values())


def test_no_records_make_no_batches():
    records = Records(binary([]), np.empty(0, np.int64), binary([]))
    assert list(by_partition(records, 4, 0)) == []
    assert list(batches(records, 4, 0)) == []


@pytest.mark.parametrize("transactional", [True, False])
def test_a_batch_says_whether_it_is_part_of_a_transaction(transactional):
    records = Records(pa.array([b"a", None, b"c"], pa.binary()), np.zeros(3, np.int64))
    ((_, batch),) = batches(records, 1, 0)
    batch.transactional = transactional
    batch._set_producer_state(7, 3, 11)
    read_back = MemoryRecords(batch._build()).next_batch()
    assert read_back.validate_crc()
    assert read_back.is_transactional is transactional
    assert (read_back.producer_id, read_back.producer_epoch) == (7, 3)


@pytest.mark.parametrize("size", [1, 60_000, 120_000])
def test_blocks_of_lz4_never_depend_on_each_other(size, ways):
    """Java's clients refuse those."""
    records = Records(pa.array([b"v" * size], pa.binary()), np.zeros(1, np.int64))
    ((_, batch),) = batches(records, 1, 0)
    packing, packed = batch._build()[22] & 7, batch._build()[61:]
    if packing == 3:
        assert packed[4] & 0x20
    assert packing == (4 if record_batches.FEW == 0 or size > 1 << 16 else 3)
