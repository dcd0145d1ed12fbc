"""Intakes of the embedded log: rows and their bookmark, all or none, whatever breaks off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import PartitionId
from streamcore.contracts import Lane, Records
from streamcore.errors import Fenced, Permanent
from streamcore.transport.embedded_broker import RETENTION, Broker
from streamcore.transport.embedded_log import EmbeddedLog

URL = "embedded://intake{}/log"


def lane(name: str) -> Lane:
    return Lane("t", "feed/rows", PartitionId("rows", 0, name), "me")


def records(*values: bytes) -> Records:
    return Records(pa.array(values, pa.binary()), np.zeros(len(values), np.int64))


async def content(log: EmbeddedLog) -> list[bytes | None]:
    bounds = (await log.bounds("rows"))[0]
    return [value async for chunk in log.scan("rows", 0, *bounds) for value in chunk.values()]


def opened(folder: Path, **options: int) -> tuple[Broker, EmbeddedLog]:
    broker = Broker.open(URL.format(folder), **options)
    broker.create("rows", 1, {RETENTION: "committed"})
    return broker, EmbeddedLog(broker)


async def test_the_next_process_knows_the_bookmark_of_the_last_append(tmp_path: Path) -> None:
    broker, log = opened(tmp_path)
    intake = log.intake("rows", lane("a"), lambda _: None)
    assert await intake.open() == b""
    await intake.append(records(b"1", b"2"), b"at 2")
    await intake.append(records(b"3"), b"at 3")
    broker.close()
    broker, log = opened(tmp_path)
    assert await log.intake("rows", lane("a"), lambda _: None).open() == b"at 3"
    assert await content(log) == [b"1", b"2", b"3"]
    broker.close()


async def test_a_bookmark_that_is_kept_without_rows_counts_until_the_next_append(tmp_path: Path) -> None:
    async def at(name: str) -> bytes:
        return await log.intake("rows", lane(name), lambda _: None).open()

    broker, log = opened(tmp_path)
    intake, other = (log.intake("rows", lane(name), lambda _: None) for name in "ab")
    await intake.open()
    await other.open()
    await intake.keep(b"at 0")
    assert await intake.open() == b"at 0"
    await intake.append(records(b"1"), b"at 1")
    await other.keep(b"b0")
    assert await intake.open() == b"at 1"
    await intake.keep(b"behind 1")
    await other.append(records(b"2"), b"b1")
    broker.close()
    broker, log = opened(tmp_path)
    assert [await at(name) for name in "ab"] == [b"behind 1", b"b1"]
    former, heir = (log.intake("rows", lane("a"), lambda _: None) for _ in range(2))
    await former.open()
    await heir.open()
    with pytest.raises(Fenced):
        await former.keep(b"of who is fenced")
    broker.close()


async def test_an_append_counts_also_with_the_bookmark_of_the_one_before(tmp_path: Path) -> None:
    """As it has when all is read once more, and nothing has changed."""
    broker, log = opened(tmp_path)
    intake = log.intake("rows", lane("a"), lambda _: None)
    await intake.open()
    await intake.append(records(b"1"), b"end")
    await intake.keep(b"")
    assert await intake.open() == b""
    await intake.append(records(b"1"), b"end")
    assert await intake.open() == b"end"
    broker.close()
    broker, log = opened(tmp_path)
    assert await log.intake("rows", lane("a"), lambda _: None).open() == b"end"
    broker.close()


async def test_without_a_disk_a_bookmark_is_kept_too() -> None:
    broker = Broker.open("embedded://kept")
    broker.create("rows", 1)
    intake = EmbeddedLog(broker).intake("rows", lane("a"), lambda _: None)
    await intake.open()
    await intake.keep(b"at 0")
    assert await intake.open() == b"at 0"
    broker.close()


async def test_each_source_that_fed_the_topic_has_a_bookmark_of_its_own(tmp_path: Path) -> None:
    broker, log = opened(tmp_path)
    first, second = (log.intake("rows", lane(name), lambda _: None) for name in "ab")
    assert [await first.open(), await second.open()] == [b"", b""]
    await first.append(records(b"1"), b"a1")
    await second.append(records(b"2"), b"b1")
    await first.append(records(b"3"), b"a2")
    broker.close()
    broker, log = opened(tmp_path)
    assert [await log.intake("rows", lane(n), lambda _: None).open() for n in "abc"] == [b"a2", b"b1", b""]
    broker.close()


@pytest.mark.parametrize("cut", [1, 40, 300, 100_000])
async def test_an_append_that_a_power_loss_tore_is_not_there_at_all(tmp_path: Path, cut: int) -> None:
    """It is larger than the blocks of other appends, of which the first ones could be left."""
    broker, log = opened(tmp_path)
    intake = log.intake("rows", lane("a"), lambda _: None)
    await intake.open()
    await intake.append(records(b"1"), b"at 1")
    synced = next((tmp_path / "log/topics/rows/0").glob("*.log")).read_bytes()
    await intake.append(records(*[b"x" * 1000] * 3000), b"at 3001")
    broker.close()
    file = next((tmp_path / "log/topics/rows/0").glob("*.log"))
    whole = file.read_bytes()
    file.write_bytes(synced + whole[len(synced) : -cut])  # the mark of what is durable is the old one
    broker, log = opened(tmp_path)
    assert await log.intake("rows", lane("a"), lambda _: None).open() == b"at 1"
    assert await content(log) == [b"1"]
    broker.close()


async def test_who_feeds_now_fences_who_fed_before(tmp_path: Path) -> None:
    broker, log = opened(tmp_path)
    former, heir = (log.intake("rows", lane("a"), lambda _: None) for _ in range(2))
    await former.open()
    await former.append(records(b"1"), b"one")
    assert await heir.open() == b"one"
    with pytest.raises(Fenced):
        await former.append(records(b"2"), b"two")
    with pytest.raises(Fenced):
        await former.open()
    await heir.append(records(b"2"), b"two")
    assert await content(log) == [b"1", b"2"]
    broker.close()


async def test_the_bookmark_outlives_rows_that_are_dropped(tmp_path: Path) -> None:
    """Also when a crash left an empty segment behind the last record."""
    broker, log = opened(tmp_path, segment_bytes=1)
    intake = log.intake("rows", lane("a"), lambda _: None)
    await intake.open()
    for number in range(5):
        await intake.append(records(b"x"), b"at %d" % number)
    partition = broker.topic("rows").logs[0]  # type: ignore[union-attr]
    partition._files._roll(partition.end)  # type: ignore[union-attr]
    partition.drop(partition.end)
    assert partition.first == 4
    broker.close()
    broker, log = opened(tmp_path)
    assert await log.intake("rows", lane("a"), lambda _: None).open() == b"at 4"
    broker.close()


async def test_a_topic_of_several_partitions_is_refused(tmp_path: Path) -> None:
    broker = Broker.open(URL.format(tmp_path))
    broker.create("rows", 3)
    with pytest.raises(Permanent, match="one partition"):
        await EmbeddedLog(broker).intake("rows", lane("a"), lambda _: None).open()
    broker.close()
