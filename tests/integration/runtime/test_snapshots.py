"""Snapshots bound the logs of state, and whoever goes on from one has the same state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.runtime.state_reading import chosen, kept_states, read_state
from streamcore.state.log_record import Entry, decode
from streamcore.state.snapshot import is_snapshot
from tests.integration.runtime.memory_sink import MemorySink
from tests.integration.runtime.test_windows_on_kafka import (
    Click,
    Clicks,
    Working,
    counted,
    times_of,
    until,
)
from tests.services.kafka import KafkaServer

OFTEN = {"snapshot_mb": 0, "memory_mb": 0}
PART = 250


class SnapshotClicks(Clicks):
    """Clicks whose workers write a snapshot whenever it pays, of state that is all on disk."""

    def settings(self, **more: object):  # type: ignore[no-untyped-def]
        made = super().settings(**more)
        return made.model_copy(update={"state": made.state.model_copy(update=OFTEN)})

    @property
    def log_topic(self) -> str:
        return f"{self.name}.clicks-window.log"

    async def firsts(self) -> list[int]:
        """Where the partitions of the window's log begin; 0 before a worker made it."""
        bounds = await self.log.bounds(self.log_topic)
        return [bounds[number].start if bounds else 0 for number in range(4)]

    async def send_logged(self, times: list[int], partitions: list[int]) -> None:
        """Sends clicks, and waits for a record of the window's log."""
        records = await self._records()
        await self.send_times(times, partitions)
        for _ in range(1_500):
            if await self._records() > records:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("no record of the log within 30 s")

    async def _records(self) -> int:
        return sum(bounds.end for bounds in (await self.log.bounds(self.log_topic)).values())

    async def feed_until_cut(self, start: int, partitions: int) -> list[int]:
        """Sends clicks from number *start* on until each partition of the log lost its front once more.

        A snapshot, its copy and the cut take a record of the log each, and when one is ready is up to
        the disk: so rows come in parts, as many as it takes.
        """
        before, sent = await self.firsts(), list[int]()
        while any(now <= old for now, old in zip(await self.firsts(), before, strict=True)):
            assert len(sent) < 100 * PART, f"logs that begin at {await self.firsts()} should have been cut"
            times = times_of(PART, start + len(sent))
            await self.send_logged(times, [i % partitions for i in range(PART)])
            sent += times
        return sent


@pytest.fixture
async def clicks(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[SnapshotClicks]:
    scene = SnapshotClicks(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


async def test_the_log_is_cut_and_each_window_comes_once_nevertheless(clicks: SnapshotClicks) -> None:
    sent: list[int] = []
    for _ in range(4):
        async with Working(clicks, clicks.topology()):
            sent += await clicks.feed_until_cut(len(sent), 4)
    expected = counted(sent)
    async with Working(clicks, clicks.topology()), Working(clicks, clicks.topology()):
        await clicks.close_all()
        await until(lambda: len(clicks.windows()) >= len(expected), "all windows, on two workers")
    assert clicks.windows() == expected


async def test_where_a_quiet_partition_stands_is_known_when_its_records_are_gone(
    clicks: SnapshotClicks,
) -> None:
    """A row that is late there is late after a restart, though windows of its time are open."""
    async with Working(clicks, clicks.topology()):
        await clicks.send_logged([500_000], [3])
        sent = await clicks.feed_until_cut(0, 3)
    assert not await _entries_of(clicks, 3)
    assert max(sent) < 300_000
    async with Working(clicks, clicks.topology()):
        await clicks.send_times([300_000], [3])
        await clicks.close_all()
        expected = counted([*sent, 500_000])
        await until(lambda: len(clicks.windows()) >= len(expected), "all windows")
    assert clicks.windows() == expected


async def _entries_of(clicks: SnapshotClicks, partition: int) -> list[Entry]:
    """What the log still has of *partition*."""
    entries = [
        decode(value)
        for number, bounds in (await clicks.log.bounds(clicks.log_topic)).items()
        async for chunk in clicks.log.scan(clicks.log_topic, number, *bounds)
        for value in chunk.values()
        if not is_snapshot(value)
    ]
    return [entry for entry in entries if entry.upstream == (clicks.topic, partition)]


async def test_a_table_survives_in_snapshots_alone(clicks: SnapshotClicks) -> None:
    def topology() -> sc.Topology:
        made = sc.Topology(clicks.name)
        stream = made.stream("clicks", Click, topic=clicks.topic)
        table = stream.by("user").aggregate(n="count(*)", first="min(at)", name="clicks/window")
        table.changelog().to(MemorySink("out", clicks.target))
        return made

    sent: list[int] = []

    def found() -> dict[str, int]:
        frame = clicks.target.frame()
        return {} if "n" not in frame.columns else dict(frame.sort("number").select("user", "n").rows())

    def all_count() -> bool:
        return sum(found().values()) == len(sent)

    for _ in range(4):
        async with Working(clicks, topology()):
            sent += await clicks.feed_until_cut(len(sent), 4)
            await until(all_count, "all rows count")
    counts = {f"u{u}": sum(t % 50 == u for t in sent) for u in range(50)}
    assert found() == counts
    graph, told = topology().freeze(), list[tuple[int, int]]()
    kept = chosen(await kept_states(graph, clicks.log), graph, "clicks/window", None)
    table = await read_state(graph, kept, clicks.log, lambda done, total: told.append((done, total)))
    assert dict(table.select("user", "n").rows()) == counts
    assert told[-1] == (kept.records, kept.records)
