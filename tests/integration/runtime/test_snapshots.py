"""Snapshots bound the logs of state, and whoever goes on from one has the same state."""

from __future__ import annotations

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


class SnapshotClicks(Clicks):
    """Clicks whose workers write a snapshot whenever it pays, of state that is all on disk."""

    def settings(self, **more: object):  # type: ignore[no-untyped-def]
        made = super().settings(**more)
        return made.model_copy(update={"state": made.state.model_copy(update=OFTEN)})

    @property
    def log_topic(self) -> str:
        return f"{self.name}.clicks-window.log"

    async def firsts(self) -> list[int]:
        """Where the partitions of the window's log begin."""
        bounds = await self.log.bounds(self.log_topic)
        return [bounds[number].start for number in sorted(bounds)]


@pytest.fixture
async def clicks(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[SnapshotClicks]:
    scene = SnapshotClicks(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


async def test_the_log_is_cut_and_each_window_comes_once_nevertheless(clicks: SnapshotClicks) -> None:
    sent: list[int] = []
    firsts: list[list[int]] = []
    for part in range(4):
        times = times_of(3_000, start=3_000 * part)
        sent += times
        async with Working(clicks, clicks.topology()):
            for start in range(0, 3_000, 250):  # a snapshot, a copy and a cut take a record of the log each
                before = len(clicks.windows())
                some = times[start : start + 250]
                await clicks.send_times(some, [i % 4 for i in range(len(some))])
                await until(lambda before=before: len(clicks.windows()) > before, "windows close")
        firsts.append(await clicks.firsts())
    assert all(first > 0 for first in firsts[-1])
    assert all(a >= b for a, b in zip(firsts[-1], firsts[1], strict=True))
    expected = counted(sent)
    async with Working(clicks, clicks.topology()), Working(clicks, clicks.topology()):
        await clicks.close_all()
        await until(lambda: len(clicks.windows()) >= len(expected), "all windows, on two workers")
    assert clicks.windows() == expected


async def test_where_a_quiet_partition_stands_is_known_when_its_records_are_gone(
    clicks: SnapshotClicks,
) -> None:
    """A row that is late there is late after a restart, though windows of its time are open."""
    times = times_of(3_000)
    async with Working(clicks, clicks.topology()):
        await clicks.send_times([50_000], [3])
        for start in range(0, 3_000, 250):
            before = len(clicks.windows())
            some = times[start : start + 250]
            await clicks.send_times(some, [i % 3 for i in range(len(some))])
            await until(lambda before=before: len(clicks.windows()) > before, "windows close")
    assert all(first > 0 for first in await clicks.firsts())
    assert not await _entries_of(clicks, 3)
    async with Working(clicks, clicks.topology()):
        await clicks.send_times([30_000], [3])
        await clicks.close_all()
        await until(lambda: ("u0", 50_000, 1) in clicks.windows(), "all windows")
    assert clicks.windows() == counted([*times, 50_000])


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

    times = [int(t) for t in times_of(4_000)]
    counts = {f"u{u}": sum(t % 50 == u for t in times) for u in range(50)}

    def found() -> dict[str, int]:
        frame = clicks.target.frame()
        return {} if "n" not in frame.columns else dict(frame.sort("number").select("user", "n").rows())

    for start in range(0, 4_000, 1_000):
        some = times[start : start + 1_000]
        async with Working(clicks, topology()):
            for at in range(0, 1_000, 250):
                await clicks.send_times(some[at : at + 250], [i % 4 for i in range(250)])
                total = start + at + 250
                await until(lambda total=total: sum(found().values()) == total, "all rows count")
    assert found() == counts
    assert all(first > 0 for first in await clicks.firsts())
    graph, told = topology().freeze(), list[tuple[int, int]]()
    kept = chosen(await kept_states(graph, clicks.log), graph, "clicks/window", None)
    table = await read_state(graph, kept, clicks.log, lambda done, total: told.append((done, total)))
    assert dict(table.select("user", "n").rows()) == counts
    assert told[-1] == (kept.records, kept.records)
