"""Ranges of Kafka topics: bounds by offset and time, partitions, transactions, retention, errors, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer

from batch_adapters.catalogue import open_source
from streamcore.contracts import Records
from streamcore.errors import BadConfig, Permanent, TopicChanged, Transient
from streamcore.systems.kafka import KafkaConnection
from streamcore.testing.sources import SOURCE, read_chunks, read_source, read_split
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer
from tests.services.native import free_ports

DAY = 86_400_000
NOVEMBER = 1_793_491_200_000
"""1 November 2026, in milliseconds."""


@pytest.fixture
def topic() -> str:
    return f"range-{uuid.uuid4().hex[:12]}"


def fill(
    kafka: KafkaServer, topic: str, partitions: int, rows: Sequence[tuple[int, int]], first: int = 0
) -> None:
    """Append rows numbered from *first*, each in a partition and of a day in November."""
    ids = range(first, first + len(rows))
    records = Records(
        pa.array([json.dumps({"id": i, "name": "x" * 200}).encode() for i in ids], pa.binary()),
        np.array([NOVEMBER + day * DAY for _, day in rows], np.int64),
        keys=pa.array([str(i).encode() for i in ids], pa.binary()),
        partitions=np.array([partition for partition, _ in rows], np.int32),
    )

    async def run() -> None:
        log = KafkaLog(KafkaConnection.parse(kafka.url))
        await log.create(topic, partitions, {"retention.ms": "-1"})
        await (await log.append(topic, records))
        await log.close()

    asyncio.run(run())


def ids(uri: str, **options: str | int) -> list[int]:
    values = [record.value for record in read_source(open_source(uri, **options))]
    return [json.loads(value)["id"] for value in values if isinstance(value, bytes)]


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"from": "2"}, [2, 3, 6]),
        ({"from": 1, "to": 3}, [1, 2, 5, 6]),
        ({"from": "2026-11-02", "to": "2026-11-04"}, [1, 2, 5]),
        ({"from": "2026-11-02T01:00:00+01:00", "to": "2026-11-04T00:00:00Z"}, [1, 2, 5]),
        ({"from": "2026-11-04"}, [3, 6]),
        ({"to": "2026-11-01T00:00:00Z"}, []),
        ({"from": "2027-01-01"}, []),
        ({"from": "3", "to": "1"}, []),
        ({"to": 1000}, [0, 1, 2, 3, 4, 5, 6]),
        ({"partitions": "1"}, [4, 5, 6]),
        ({"partitions": "1,0", "to": "1"}, [0, 4]),
    ],
)
def test_bounds_are_offsets_and_times_of_each_partition(
    kafka: KafkaServer, topic: str, bounds: dict[str, str | int], wanted: list[int]
) -> None:
    fill(kafka, topic, 2, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)])
    assert ids(f"{kafka.url}/{topic}", **bounds) == wanted
    query = "&".join(f"{name}={value}" for name, value in bounds.items())
    assert ids(f"{kafka.url}/{topic}?{query}".rstrip("?")) == wanted


def test_keys_times_and_headers_come_along(kafka: KafkaServer, topic: str) -> None:
    fill(kafka, topic, 1, [(0, 0), (0, 1)])
    (chunk,) = read_chunks(
        open_source(f"{kafka.url}/{topic}?from=1").splits(1)[0].open(SOURCE, 0), 0, 1 << 20
    )
    assert (chunk.keys(), list(chunk.timestamps() or [])) == ([b"1"], [NOVEMBER + DAY])
    assert (chunk.first, chunk.end, chunk.offsets().tolist()) == (0, 1, [0])


def test_a_later_process_has_the_bounds_of_the_first(kafka: KafkaServer, topic: str) -> None:
    for first_id in (0, 30, 60):
        fill(kafka, topic, 1, [(0, 0)] * (40 if first_id == 60 else 30), first=first_id)
    first = open_source(f"{kafka.url}/{topic}").splits(1)[0]
    chunk = next(read_chunks(first.open(SOURCE, 0, first.bookmark), 0, 8000))
    assert 0 < chunk.end < 90
    fill(kafka, topic, 1, [(0, 0)] * 50, first=100)
    later = open_source(f"{kafka.url}/{topic}").splits(1)[0]
    assert later.size == 150
    rest = read_split(later, chunk)
    assert [record.position for record in rest] == list(range(chunk.end, 100))


def test_only_committed_records_are_read_and_the_marks_of_transactions_are_passed(
    kafka: KafkaServer, topic: str
) -> None:
    fill(kafka, topic, 1, [(0, 0)])

    async def transactions() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
        await producer.start()
        for number, end in enumerate((producer.commit_transaction, producer.abort_transaction) * 2):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, json.dumps({"id": 10 + number}).encode())
            await end()
        await producer.stop()

    asyncio.run(transactions())
    assert ids(f"{kafka.url}/{topic}") == [0, 10, 12]


def test_records_that_retention_took_are_no_silent_hole(kafka: KafkaServer, topic: str) -> None:
    fill(kafka, topic, 1, [(0, 0)] * 30)
    split = open_source(f"{kafka.url}/{topic}?from=0").splits(1)[0]

    async def trim() -> None:
        log = KafkaLog(KafkaConnection.parse(kafka.url))
        await log.trim(topic, 0, 10)
        await log.close()

    asyncio.run(trim())
    with pytest.raises(
        BadConfig, match=r"/0: the topic does not hold .* got 0, allowed: from 10; from=earliest"
    ):
        open_source(f"{kafka.url}/{topic}?from=0").splits(1)
    assert ids(f"{kafka.url}/{topic}") == list(range(10, 30))
    with pytest.raises(TopicChanged, match="retention has passed them"):
        read_split(split)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "which topic"),
        ("/{wrong}", "did you mean '{topic}'"),
        ("/{topic}?from=yesterday", "option from is no offset and no time, got 'yesterday'"),
        ("/{topic}?partitions=7", "no such partition, got 7, allowed: 0"),
        ("/{topic}?partitions=x", "not a list of numbers"),
        ("/{topic}?form=1", "unknown option form"),
    ],
)
def test_mistakes_are_found_before_a_record_is_read(
    kafka: KafkaServer, topic: str, path: str, message: str
) -> None:
    fill(kafka, topic, 1, [(0, 0)])
    names = {"topic": topic, "wrong": topic[:-1] + "_"}
    with pytest.raises((BadConfig, Permanent), match=message.format(**names)):
        open_source(kafka.url + path.format(**names))


def test_who_cannot_connect_learns_why_and_no_password_is_shown(kafka: KafkaServer) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Transient, match=f"127.0.0.1:{port}"):
        open_source(f"kafka://127.0.0.1:{port}/t")
    if kafka.sasl_ssl is None or kafka.ca_file is None:
        pytest.skip("the broker has no TLS")
    query = f"ca_file={kafka.ca_file}"
    with pytest.raises(Permanent, match="refused the credentials") as refused:
        open_source(f"kafka://{kafka.user}:s3cret@{kafka.sasl_ssl}/t?{query}")
    assert "s3cret" not in str(refused.value)


def over_tls(kafka: KafkaServer, topic: str, user: str) -> str:
    return f"kafka://{user}@{kafka.sasl_ssl}/{topic}?ca_file={kafka.ca_file}&to=2"


def test_over_tls_with_a_password_by_reference(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if kafka.sasl_ssl is None:
        pytest.skip("the broker has no TLS")
    fill(kafka, topic, 1, [(0, 0)] * 3)
    monkeypatch.setenv("KAFKA_PASSWORD", kafka.password)
    uri = over_tls(kafka, topic, f"{kafka.user}:${{env:KAFKA_PASSWORD}}")
    assert ids(uri) == [0, 1]
    source = open_source(uri)
    assert kafka.password not in f"{source!r}{source.uri}{caplog.text}"


MODULE = """
import streamcore as sc
topology = sc.Topology("ranges")
topology.stream("users", {"id": "int64", "name": "string"}).to(sc.sinks.Parquet("out", roll_seconds=0.2))
"""


@pytest.mark.slow
def test_a_replay_that_was_killed_goes_on_while_records_come(
    kafka: KafkaServer, topic: str, tmp_path: Path
) -> None:
    fill(kafka, topic, 3, [(i % 3, 0) for i in range(15_000)])
    (tmp_path / "ranges.py").write_text(MODULE)
    source = f"users={kafka.url}/{topic}"
    command = [sys.executable, "-m", "streamcore.cli", "replay", "ranges.py", "--from", source]
    environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for kill in ("files.after_seal:2", ""):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, "STREAMCORE_CRASH_POINT": kill},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == (not kill), done.stderr
        fill(kafka, topic, 3, [(0, 1)] * 10, first=20_000)
    found = pl.read_parquet(tmp_path / "out/**/*.parquet")["id"].to_list()
    assert sorted(found) == list(range(15_000)), "none lost, none twice, none of what came later"
