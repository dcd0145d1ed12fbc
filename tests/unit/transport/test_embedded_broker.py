"""The embedded broker without Faust: topics, commits, retention, limits, its directory and its log."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2

from streamcore.batch import PartitionId, Range
from streamcore.contracts import Records
from streamcore.errors import BadConfig, Fenced, Permanent, TopicChanged
from streamcore.transport import embedded_directory
from streamcore.transport.coordinator import Assignment
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import RETENTION, Broker
from streamcore.transport.embedded_directory import Directory, TopicMeta
from streamcore.transport.embedded_log import EmbeddedLog


def columns(*values: bytes, **options: object) -> Records:
    return Records(pa.array(values, pa.binary()), np.arange(len(values)), **options)  # type: ignore[arg-type]


class OnlyMember:
    """Joins a group at once and owns all partitions of a topic."""

    def __init__(self, broker: Broker, group: str, topic: str) -> None:
        self.broker, self.topic = broker, topic
        self.group = broker.group(group)
        self.group.coordinator.join("me", self, None)

    def wake(self) -> None:
        pass

    def assign(self, members: object) -> dict[str, Assignment[object]]:
        partitions = self.broker.partitions_for_topic(self.topic) or set()
        return {"me": Assignment(frozenset((self.topic, p) for p in partitions), None)}

    async def commit(self, partition: int, offset: int) -> None:
        topic = self.broker.topic(self.topic)
        assert topic is not None
        await self.group.commit("me", self.group.coordinator.generation, {topic.source(partition): offset})


@pytest.fixture
async def memory() -> AsyncIterator[Broker]:
    broker = Broker.open("embedded://unit", partition_bytes=10_000)
    yield broker
    broker.close()


async def read(broker: Broker, topic: str, partition: int = 0) -> list[bytes | None]:
    log = EmbeddedLog(broker)
    first, end = (await log.bounds(topic))[partition]
    return [v async for chunk in log.scan(topic, partition, first, end) for v in chunk.values()]


async def test_one_url_is_one_broker_until_it_is_closed() -> None:
    first = Broker.open("embedded://same")
    assert Broker.open("embedded://same") is first
    assert first.create("t", 1)
    first.close()
    second = Broker.open("embedded://same")
    assert second.topic("t") is None
    second.close()


async def test_a_topic_made_again_has_another_id(memory: Broker) -> None:
    assert memory.create("t", 1)
    assert not memory.create("t", 5)
    before = memory.topic("t")
    memory.delete("t")
    memory.create("t", 1)
    after = memory.topic("t")
    assert before is not None
    assert after is not None
    assert before.topic_id != after.topic_id
    with pytest.raises(TopicChanged):
        memory.bounds(before.source(0))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "x" * 250])
async def test_names_that_kafka_refuses_are_refused(memory: Broker, name: str) -> None:
    with pytest.raises(BadConfig, match="not a topic name"):
        memory.create(name, 1)


async def test_keys_are_spread_as_kafka_does_and_keep_their_order(memory: Broker) -> None:
    log = EmbeddedLog(memory)
    await log.create("t", 5, {RETENTION: "all"})
    keys = [b"key-%d" % (i % 37) for i in range(400)]
    values = [b"%d" % i for i in range(400)]
    await (await log.append("t", columns(*values, keys=pa.array(keys, pa.binary()))))
    for partition in range(5):
        wanted = [v for k, v in zip(keys, values, strict=True) if (murmur2(k) & 0x7FFFFFFF) % 5 == partition]
        assert await read(memory, "t", partition) == wanted


async def test_partitions_win_over_keys_and_records_without_both_stay_together(memory: Broker) -> None:
    log = EmbeddedLog(memory)
    await log.create("t", 2, {})
    keys = pa.array([b"a", b"a"], pa.binary())
    await (await log.append("t", columns(b"0", b"1", keys=keys, partitions=np.array([1, 0], np.int32))))
    assert (await read(memory, "t", 0), await read(memory, "t", 1)) == ([b"1"], [b"0"])
    await (await log.append("t", columns(b"x", b"y")))
    await (await log.append("t", columns(b"z")))
    assert (await read(memory, "t", 0), await read(memory, "t", 1)) == ([b"1", b"x", b"y"], [b"0", b"z"])
    await (await log.append("t", columns()))
    with pytest.raises(Permanent, match="2 partitions, got 2"):
        await log.append("t", columns(b"", partitions=np.array([2], np.int32)))


async def test_a_missing_topic_is_named(memory: Broker) -> None:
    log = EmbeddedLog(memory)
    assert await log.bounds("absent") == {}
    with pytest.raises(Permanent, match="no topic absent"):
        await log.append("absent", columns(b"a"))
    with pytest.raises(BadConfig, match="absent"):
        [c async for c in log.scan("absent", 0, 0, 1)]


async def test_a_scan_gives_the_range_that_is_asked_for(memory: Broker) -> None:
    log = EmbeddedLog(memory)
    await log.create("t", 1, {})
    await (await log.append("t", columns(*[b"%d" % i for i in range(10)])))
    chunks = [c async for c in log.scan("t", 0, 3, 7)]
    assert [v for c in chunks for v in c.values()] == [b"3", b"4", b"5", b"6"]
    assert [c async for c in log.scan("t", 0, 10, 99)] == []


async def test_memory_keeps_what_some_reading_group_has_not_committed(memory: Broker) -> None:
    memory.create("t", 1)
    for i in range(4):
        memory.append("t", 0, to_batch(columns(b"%d" % i)))
    one, two = OnlyMember(memory, "one", "t"), OnlyMember(memory, "two", "t")
    memory.reads("t", "one")
    memory.reads("t", "two")
    await one.commit(0, 4)
    assert await read(memory, "t") == [b"0", b"1", b"2", b"3"]
    await two.commit(0, 3)
    assert await read(memory, "t") == [b"3"]


@pytest.mark.parametrize(
    "config", [{RETENTION: "all"}, {"cleanup.policy": "compact"}, {"retention.ms": "-1"}]
)
async def test_topics_that_keep_everything_do(memory: Broker, config: dict[str, str]) -> None:
    memory.create("t", 1, config)
    memory.append("t", 0, to_batch(columns(b"a")))
    member = OnlyMember(memory, "g", "t")
    memory.reads("t", "g")
    await member.commit(0, 1)
    assert await read(memory, "t") == [b"a"]
    big = to_batch(columns(bytes(9_000)))
    memory.append("t", 0, big)
    await memory.room("t", 0, big.nbytes)  # no limit where nothing is dropped


async def test_an_append_waits_while_the_partition_holds_too_much(memory: Broker) -> None:
    memory.create("t", 1)
    log = EmbeddedLog(memory)
    memory.group("g")
    memory.reads("t", "g")
    member = OnlyMember(memory, "g", "t")
    await (await log.append("t", columns(bytes(9_000))))
    woken = []
    end = memory.listen(lambda: woken.append(memory.full))
    waiting = asyncio.create_task(log.append("t", columns(bytes(9_000))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert woken == [True]
    await member.commit(0, 1)
    await (await waiting)
    end()
    assert (await log.bounds("t"))[0] == Range(1, 2)
    assert not memory.full


async def test_a_rebalance_lets_waiting_appends_pass(memory: Broker) -> None:
    memory.create("t", 1)
    member = OnlyMember(memory, "g", "t")
    memory.reads("t", "g")
    log = EmbeddedLog(memory)
    await (await log.append("t", columns(bytes(9_000))))
    waiting = asyncio.create_task(log.append("t", columns(bytes(9_000))))
    await asyncio.sleep(0)
    member.group.coordinator.join("other", member, None)
    memory.let_appends_pass()
    await (await waiting)
    assert (await log.bounds("t"))[0].end == 2


async def test_a_record_over_the_limit_passes_when_nothing_else_is_held(memory: Broker) -> None:
    memory.create("t", 1, {RETENTION: "committed"})
    await (await EmbeddedLog(memory).append("t", columns(bytes(50_000))))
    assert (await EmbeddedLog(memory).bounds("t"))[0].end == 1


async def test_a_commit_of_an_old_generation_changes_nothing(memory: Broker) -> None:
    memory.create("t", 1)
    member = OnlyMember(memory, "g", "t")
    await member.commit(0, 5)
    member.group.coordinator.drop(["me"])
    with pytest.raises(Fenced):
        await member.commit(0, 9)
    assert list(member.group.committed.values()) == [5]


async def test_a_directory_remembers_topics_records_and_commits(tmp_path: Path) -> None:
    url = f"embedded://disk{tmp_path}/log"
    broker = Broker.open(url)
    log = EmbeddedLog(broker)
    await log.create("t.x", 3, {"a": "b"})
    await (await log.append("t.x", columns(b"1", b"2", partitions=np.array([2, 2], np.int32))))
    member = OnlyMember(broker, "group/with: odd.name", "t.x")
    await member.commit(2, 2)
    topic = broker.topic("t.x")
    assert topic is not None
    broker.close()
    again = Broker.open(url)
    found = again.topic("t.x")
    assert found is not None
    assert (found.topic_id, len(found), found.config) == (topic.topic_id, 3, {"a": "b"})
    assert await read(again, "t.x", 2) == [b"1", b"2"]
    assert again.group("group/with: odd.name").committed == {topic.source(2): 2}
    again.delete("t.x")
    again.close()
    third = Broker.open(url)
    assert third.topic("t.x") is None
    third.close()


async def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    broker = Broker.open(f"embedded://one{tmp_path}/log")
    with pytest.raises(BadConfig, match=f"in use by process {os.getpid()}"):
        Broker.open(f"embedded://two{tmp_path}/log")
    script = (
        f"from streamcore.transport.embedded_broker import Broker; Broker.open('embedded://x{tmp_path}/log')"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"in use by process {os.getpid()}" in other.stderr
    broker.close()
    Broker.open(f"embedded://two{tmp_path}/log").close()


@pytest.mark.parametrize("name", ["topics/t/meta", "groups/g"])
async def test_a_damaged_file_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    url = f"embedded://disk{tmp_path}/log"
    broker = Broker.open(url)
    broker.create("t", 1)
    await OnlyMember(broker, "g", "t").commit(0, 0)
    broker.close()
    path = tmp_path / "log" / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole.replace(b'"t"', b'"u"').replace(b":1", b":2")):
        path.write_bytes(damaged)
        with pytest.raises(Permanent, match="damaged"):
            Broker.open(url)
    path.write_bytes(whole)
    Broker.open(url).close()


async def test_half_made_and_half_deleted_topics_are_swept_away(tmp_path: Path) -> None:
    url = f"embedded://disk{tmp_path}/log"
    Broker.open(url).close()
    (tmp_path / "log" / "topics" / "half~").mkdir()
    broker = Broker.open(url)
    assert broker.create("half", 1)
    broker.close()


async def test_many_who_wait_for_durability_share_syncs(tmp_path: Path) -> None:
    broker = Broker.open(f"embedded://disk{tmp_path}/log")
    log = EmbeddedLog(broker)
    await log.create("t", 1, {})
    done = [await log.append("t", columns(b"%d" % i)) for i in range(50)]
    await asyncio.gather(*done)
    broker.close()
    again = Broker.open(f"embedded://disk{tmp_path}/log")
    assert len(await read(again, "t")) == 50
    again.close()


async def test_what_a_scan_gives_is_durable(tmp_path: Path) -> None:
    """Who finds its dead letter in the log does not write it again, so a power loss must not take it back."""
    broker = Broker.open(f"embedded://unit{tmp_path}/log")
    broker.create("t", 1, {})
    log, topic = EmbeddedLog(broker), broker.topic("t")
    assert topic is not None
    await log.append_if("t", columns(b"a", b"b"), lambda: None)
    assert topic.logs[0].durable == 0
    found = [chunk.end <= topic.logs[0].durable async for chunk in log.scan("t", 0, 0, 10)]
    assert found == [True]
    broker.close()


async def test_a_failed_sync_is_never_followed_by_a_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker.open(f"embedded://disk{tmp_path}/log")
    log = EmbeddedLog(broker)
    await log.create("t", 1, {})
    await (await log.append("t", columns(b"a")))
    member = OnlyMember(broker, "g", "t")
    await member.commit(0, 1)

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(Permanent, match="fsync failed"):
            await (await log.append("t", columns(b"b")))
    with pytest.raises(Permanent, match="can't be written"):
        await member.commit(0, 2)
    assert list(member.group.committed.values()) == [1]
    with pytest.raises(Permanent, match="can't be written"):
        broker.close()


async def test_feeds_of_one_topic_share_its_id(memory: Broker) -> None:
    class Nothing:
        def __init__(self, topic_id: str) -> None:
            self.source = PartitionId("t", 0, topic_id)

        def read(self, position: int, max_bytes: int) -> None:
            return None

        def end(self) -> int:
            return 7

        def close(self) -> None:
            pass

    with pytest.raises(BadConfig, match="share one topic id"):
        memory.attach("t", [Nothing("a"), Nothing("b")])
    memory.attach("t", [Nothing("a"), Nothing("a")])
    assert memory.bounds(PartitionId("t", 1, "a")) == Range(0, 7)
    assert await EmbeddedLog(memory).bounds("t") == {}
    with pytest.raises(BadConfig, match="exists already"):
        memory.attach("t", [Nothing("a")])


def test_names_that_a_killed_process_left_to_the_kernel_are_durable_once_it_is_open_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power loss takes a topic away in which others have committed since (simulation, seed 63662)."""
    synced: list[Path] = []
    monkeypatch.setattr(embedded_directory, "sync_directory", synced.append)
    first = Directory(tmp_path)
    first.create("rows", TopicMeta("id", 1, {}))
    first.close()
    synced.clear()
    Directory(tmp_path).close()
    assert {tmp_path / "topics", tmp_path / "groups"} <= set(synced)
