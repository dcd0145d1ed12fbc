"""Real Faust apps on the embedded transport, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import faust
import pytest
from faust.types import TP

from streamcore.batch import Chunk, PartitionId
from streamcore.errors import TopicChanged
from streamcore.transport.embedded_broker import Broker
from tests.integration.transport.embedded_apps import (
    Numbers,
    collect,
    committed,
    make_app,
    put,
    running,
    until,
)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in memory; nothing of it is left after the test."""
    before = set(threading.enumerate())
    broker = Broker.open("embedded://test", partition_bytes=200_000)
    yield broker
    broker.close()
    assert set(threading.enumerate()) <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


def numbers_of(chunks: list[Chunk]) -> list[int]:
    return [int(v or b"") for chunk in chunks for v in chunk.values()]


async def test_a_chunked_agent_reads_everything_once_and_in_order(broker: Broker, tmp_path: Path) -> None:
    broker.create("events", 4)
    for partition in range(4):
        put(broker, "events", range(partition * 1000, partition * 1000 + 500), partition)
    chunks: list[Chunk] = []
    app = make_app(broker.url, tmp_path)
    collect(app, "events", chunks.append)
    async with running(app):
        for i in range(500, 600):
            for partition in range(4):
                put(broker, "events", [partition * 1000 + i], partition)
            await asyncio.sleep(0)
        await until(lambda: sum(map(len, chunks)) >= 2400)
        await until(lambda: committed(broker, "events") == dict.fromkeys(range(4), 600))
    topic = broker.topic("events")
    assert topic is not None
    for partition in range(4):
        own = [c for c in chunks if c.source == topic.source(partition)]
        assert numbers_of(own) == list(range(partition * 1000, partition * 1000 + 600))
        assert [c.first for c in own] == [0, *(c.end for c in own[:-1])]


async def test_a_restarted_app_goes_on_after_its_commit(broker: Broker, tmp_path: Path) -> None:
    broker.create("events", 1)
    seen: list[Chunk] = []
    for last in (100, 250):
        put(broker, "events", range(broker.bounds(broker.topic("events").source(0)).end, last))  # type: ignore[union-attr]
        app = make_app(broker.url, tmp_path)
        collect(app, "events", seen.append)
        async with running(app):
            await until(lambda last=last: sum(map(len, seen)) >= last)
    assert numbers_of(seen) == list(range(250))
    assert committed(broker, "events") == {0: 250}


class Confirmed:
    """Positions of a runtime whose sinks have confirmed everything below *position*."""

    def __init__(self, position: int) -> None:
        self.position, self.starts = position, dict[PartitionId, int]()

    async def assigned(self, starts: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self.starts.update(starts)
        return starts

    def commit_position(self, tp: TP) -> int | None:
        return self.position

    async def revoked(self, tps: set[TP]) -> None:
        pass


async def test_only_what_the_sinks_confirmed_is_committed_and_the_rest_comes_again(
    broker: Broker, tmp_path: Path
) -> None:
    broker.create("events", 1)
    put(broker, "events", range(5))
    seen: list[list[int]] = []
    positions = Confirmed(3)
    for _ in range(2):
        chunks: list[Chunk] = []
        app = make_app(broker.url, tmp_path)
        app.streamcore_positions = positions
        collect(app, "events", chunks.append)
        async with running(app):
            await until(lambda chunks=chunks: numbers_of(chunks)[-1:] == [4])
            await until(lambda: committed(broker, "events") == {0: 3})
        seen.append(numbers_of(chunks))
    assert seen == [[0, 1, 2, 3, 4], [3, 4]]
    assert positions.starts == {broker.topic("events").source(0): 3}  # type: ignore[union-attr]


async def test_per_record_agents_and_tables_live_beside_chunks_and_recover(
    broker: Broker, tmp_path: Path
) -> None:
    broker.create("events", 2)
    sums: list[int] = []
    for turn in (1, 2):
        put(broker, "events", [1, 2, 3])
        app = make_app(broker.url, tmp_path, topic_partitions=2)
        table = app.Table("totals", default=int)
        orders = app.topic("orders", key_type=str, value_type=int)
        chunks: list[Chunk] = []
        collect(app, "events", chunks.append)

        async def count(stream: faust.StreamT[int], table: faust.Table[str, int] = table) -> None:
            async for key, value in stream.items():
                table[key] += value

        app.agent(orders)(count)
        async with running(app):
            for i in range(20):
                await orders.send(key=f"k{i % 4}", value=1)
            await until(lambda turn=turn, table=table: sum(table.values()) == 20 * turn)
            await until(lambda chunks=chunks: sum(map(len, chunks)) == 3)
            sums.append(table["k3"])
    assert sums == [5, 10]


async def test_records_carry_key_time_and_headers(broker: Broker, tmp_path: Path) -> None:
    app = make_app(broker.url, tmp_path)
    topic = app.topic("plain", key_type=bytes, value_type=bytes, value_serializer="raw")
    seen: list[tuple[object, ...]] = []

    async def read(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            seen.append((message.key, message.value, message.timestamp, list(event.headers.items())))

    app.agent(topic)(read)
    async with running(app):
        await topic.send(key=b"k", value=b"v", timestamp=12.5, headers=[("h", b"1")])
        await until(lambda: seen)
    assert seen == [(b"k", b"v", 12.5, [("h", b"1")])]


async def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    broker: Broker, tmp_path: Path
) -> None:
    broker.create("events", 4)
    seen: dict[str, list[Chunk]] = {"a": [], "b": []}
    apps = {name: make_app(broker.url, tmp_path / name) for name in seen}
    for name, app in apps.items():
        collect(app, "events", seen[name].append)

    def partitions(name: str) -> set[int]:
        return {tp.partition for tp in apps[name].consumer.assignment() if tp.topic == "events"}

    def settled() -> bool:
        return not any(app.rebalancing for app in apps.values())

    async with running(apps["a"]):
        await until(lambda: len(partitions("a")) == 4)
        async with running(apps["b"]):
            await until(lambda: len(partitions("a")) == len(partitions("b")) == 2 and settled())
            assert partitions("a") | partitions("b") == set(range(4))
            for i in range(50):
                for partition in range(4):
                    put(broker, "events", [partition * 1000 + i], partition)
                await asyncio.sleep(0.001)
            await until(lambda: sum(map(len, seen["a"] + seen["b"])) == 200)
            assert {c.source.partition for c in seen["b"]} == partitions("b")
        await until(lambda: len(partitions("a")) == 4)
        for partition in range(4):
            put(broker, "events", [partition * 1000 + 50], partition)
        await until(lambda: sum(map(len, seen["a"] + seen["b"])) == 204)
    everything = numbers_of(seen["a"] + seen["b"])
    assert sorted(everything) == [p * 1000 + i for p in range(4) for i in range(51)]


async def test_tables_follow_their_partitions_when_three_members_become_two(
    broker: Broker, tmp_path: Path
) -> None:
    apps, tables = [], []
    for name in "abc":
        app = make_app(broker.url, tmp_path / name, topic_partitions=6)
        table = app.Table("totals", default=int)

        async def count(stream: faust.StreamT[int], table: faust.Table[str, int] = table) -> None:
            async for key, value in stream.items():
                table[key] += value

        app.agent(app.topic("orders", key_type=str, value_type=int))(count)
        apps.append(app)
        tables.append(table)

    def shares() -> list[int]:
        return [sum(tp.topic == "orders" for tp in app.consumer.assignment()) for app in apps]

    def settled(wanted: list[int]) -> bool:
        return sorted(shares()) == wanted and not any(app.rebalancing for app in apps)

    async def send() -> None:
        for i in range(40):
            await apps[0].send("orders", key=f"k{i % 20}", value=1)

    def totals() -> dict[str, int]:
        """Of each key the highest count: only its owner counts on."""
        found: dict[str, int] = {}
        for table in tables:
            for key, value in table.items():
                found[key] = max(found.get(key, 0), value)
        return found

    async with running(*apps[:2]):
        async with running(apps[2]):
            await until(lambda: settled([2, 2, 2]))
            await send()
            await until(lambda: totals() == {f"k{i}": 2 for i in range(20)})
        await until(lambda: settled([0, 3, 3]))
        await send()
        await until(lambda: totals() == {f"k{i}": 4 for i in range(20)})


async def test_a_zombie_reads_nothing_and_commits_nothing_after_the_take_over(
    broker: Broker, tmp_path: Path
) -> None:
    broker.create("events", 1)
    put(broker, "events", range(10))
    held, release = asyncio.Event(), asyncio.Event()
    zombie_seen: list[Chunk] = []

    async def hold(chunk: Chunk) -> None:
        zombie_seen.append(chunk)
        held.set()
        await release.wait()

    zombie = make_app(broker.url, tmp_path / "z", broker_heartbeat_interval=1000.0)
    collect(zombie, "events", hold)
    owner_seen: list[Chunk] = []
    owner = make_app(broker.url, tmp_path / "o")
    collect(owner, "events", owner_seen.append)
    async with running(zombie):
        await held.wait()
        zombie.consumer.wake = lambda: None  # stopped: it does not learn what happens
        broker.group("group").coordinator.drop([zombie.consumer.member])
        async with running(owner):
            await until(lambda: committed(broker, "events") == {0: 10})
            put(broker, "events", range(10, 20))
            await until(lambda: committed(broker, "events") == {0: 20})
            release.set()
            await until(lambda: not zombie.consumer.unacked)
            assert not await zombie.consumer.commit()
            assert not await zombie.consumer._commit(dict.fromkeys(zombie.consumer.assignment(), 99))
    assert numbers_of(zombie_seen) == list(range(10))
    assert numbers_of(owner_seen) == list(range(20))
    assert committed(broker, "events") == {0: 20}


async def test_a_bounded_topic_is_read_to_its_end_and_says_so(broker: Broker, tmp_path: Path) -> None:
    feeds = [Numbers(0, 95), Numbers(1, 0), Numbers(2, 10)]
    broker.attach("numbers", feeds)
    chunks: list[Chunk] = []
    app = make_app(broker.url, tmp_path)
    collect(app, "numbers", chunks.append)
    async with running(app):
        assert not app.consumer.ended()
        await until(app.consumer.ended)
        await until(lambda: committed(broker, "numbers") == {0: 95, 2: 10})
        assert app.consumer.lag() == {}
    assert Counter(numbers_of(chunks)) == Counter([*range(95), *range(10)])
    assert feeds[0].reads == [*range(0, 100, 10), 95]


async def test_a_live_topic_never_ends(broker: Broker, tmp_path: Path) -> None:
    broker.attach("numbers", [Numbers(0, 5)])
    broker.create("events", 1)
    put(broker, "events", [1])
    chunks: list[Chunk] = []
    app = make_app(broker.url, tmp_path)
    collect(app, "numbers", chunks.append)
    collect(app, "events", chunks.append)
    async with running(app):
        await until(lambda: sum(map(len, chunks)) == 6)
        await until(lambda: set(app.consumer.lag().values()) == {0})
        assert not app.consumer.ended()


async def test_a_replay_goes_on_from_its_commit_and_another_run_begins_anew(
    broker: Broker, tmp_path: Path
) -> None:
    seen: list[list[int]] = []
    for topic_id in ("run", "run", "another"):
        if broker.topic("numbers"):
            broker.delete("numbers")
        broker.attach("numbers", [Numbers(0, 30, topic_id=topic_id)])
        chunks: list[Chunk] = []
        app = make_app(broker.url, tmp_path)
        collect(app, "numbers", chunks.append)
        async with running(app):
            await until(app.consumer.ended)
            await until(lambda chunks=chunks, seen=seen: len(seen) == 1 or sum(map(len, chunks)) == 30)
        seen.append(numbers_of(chunks))
    assert seen == [list(range(30)), [], list(range(30))]


async def test_only_one_chunk_is_read_ahead_of_the_work(broker: Broker, tmp_path: Path) -> None:
    feed = Numbers(0, 1000)
    broker.attach("numbers", [feed])
    go_on = asyncio.Event()
    app = make_app(broker.url, tmp_path, stream_buffer_maxsize=2)

    async def hold(chunk: Chunk) -> None:
        await go_on.wait()

    collect(app, "numbers", hold)
    async with running(app):
        await until(lambda: len(feed.reads) >= 3)
        await asyncio.sleep(0.2)
        handed_out = await app.consumer.position(next(iter(app.consumer.assignment())))
        assert max(feed.reads) - handed_out <= 10
        assert max(feed.reads) <= 60
        go_on.set()
        await until(app.consumer.ended)


async def test_a_feed_that_fails_stops_the_app_with_its_error(broker: Broker, tmp_path: Path) -> None:
    broker.attach("numbers", [Numbers(0, 50, fails_at=20)])
    app = make_app(broker.url, tmp_path)
    collect(app, "numbers", lambda chunk: None)
    async with running(app):
        await until(lambda: app.crashed)
    with pytest.raises(ValueError, match="the file is gone"):
        raise app._crash_reason


async def test_a_topic_made_again_stops_the_app(broker: Broker, tmp_path: Path) -> None:
    broker.create("events", 1)
    put(broker, "events", [1])
    first = make_app(broker.url, tmp_path)
    collect(first, "events", lambda chunk: None)
    async with running(first):
        await until(lambda: committed(broker, "events"))
    broker.delete("events")
    broker.create("events", 1)
    second = make_app(broker.url, tmp_path)
    collect(second, "events", lambda chunk: None)
    async with running(second):
        await until(lambda: second.crashed)
    with pytest.raises(TopicChanged, match="made again"):
        raise second._crash_reason


async def test_a_slow_consumer_holds_the_producer_and_bounds_what_is_held(
    broker: Broker, tmp_path: Path
) -> None:
    app = make_app(broker.url, tmp_path, topic_partitions=1, consumer_max_fetch_size=20_000)
    topic = app.topic("events", schema=None, key_type=bytes, value_type=bytes)
    held, seen = [0], [0]

    async def slow(chunk: Chunk) -> None:
        await asyncio.sleep(0.001)
        seen[0] += len(chunk)
        held[0] = max(held[0], broker.topic("events").logs[0].nbytes)  # type: ignore[union-attr]

    collect(app, "events", slow)
    del topic
    async with running(app):
        for _ in range(300):
            await app.producer.send("events", None, bytes(10_000), 0, None, None)
        await until(lambda: seen[0] == 300)
    assert 100_000 < held[0] <= 200_000 + 11_000
