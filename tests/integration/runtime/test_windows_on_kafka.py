"""Windows on a real broker: rows of a key meet in one place, whoever reads them, and state survives."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.contracts import Records
from streamcore.runtime.feeding import feed_isolated
from streamcore.runtime.replay import ReplayOptions
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.runtime.memory_sink import MemorySink
from tests.integration.runtime.test_worker import Scene, Working, until
from tests.services.kafka import KafkaServer

SIZE = 1_000  # ms
FAR = 10_000_000


class Click(sc.Event):
    user: str
    at: int


class Clicks(Scene):
    """Clicks of 50 users, whose rows lie in any of 4 partitions; a window of a second each."""

    def topology(self, size: str = "1s") -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        clicks = topology.stream("clicks", Click, event_time="at", max_lateness="2s", topic=self.topic)
        clicks.window(sc.tumbling(size)).by("user").aggregate(n="count(*)", first="min(at)").to(
            MemorySink("out", self.target)
        )
        return topology

    async def send_times(self, times: list[int], partitions: list[int]) -> None:
        values = [orjson.dumps({"user": f"u{at % 50}", "at": at}) for at in times]
        stamps = np.full(len(values), int(time.time() * 1000))
        records = Records(pa.array(values, pa.binary()), stamps, partitions=np.array(partitions, np.int32))
        await (await self.log.append(self.topic, records))

    async def close_all(self) -> None:
        """A click far ahead in each partition: all windows before it close."""
        await self.send_times([FAR] * 4, [0, 1, 2, 3])

    def windows(self) -> list[tuple[str, int, int]]:
        frame = self.target.frame()
        if "window_start" not in frame.columns:
            return []
        return sorted(frame.select("user", "window_start", "n").rows())


def counted(times: list[int]) -> list[tuple[str, int, int]]:
    found = Counter((f"u{at % 50}", at // SIZE * SIZE) for at in times)
    return sorted((user, start, n) for (user, start), n in found.items())


@pytest.fixture
async def clicks(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Clicks]:
    scene = Clicks(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


def times_of(count: int, start: int = 0) -> list[int]:
    rng = np.random.default_rng(count + start)
    jitter = rng.integers(0, 2_000, count)
    return [int(t) for t in np.arange(start, start + count) * 7 + jitter]


async def test_each_window_comes_once_also_with_restarts_and_another_worker(clicks: Clicks) -> None:
    first = times_of(6_000)
    # Whole stretches lie in one partition each: read unevenly, watermarks are far apart.
    await clicks.send_times(first, [(i // 1_500) % 4 for i in range(len(first))])
    async with Working(clicks, clicks.topology()):
        await until(lambda: len(clicks.windows()) > 0, "windows close")
    second = times_of(6_000, start=6_000)
    await clicks.send_times(second, [i % 4 for i in range(len(second))])
    expected = counted(first + second)
    async with Working(clicks, clicks.topology()):
        await until(lambda: len(clicks.windows()) > 100, "windows close while the stream goes on")
        async with Working(clicks, clicks.topology()):
            await clicks.close_all()
            await until(lambda: len(clicks.windows()) >= len(expected), "all windows, on two workers")
        assert clicks.windows() == expected
    async with Working(clicks, clicks.topology()):
        await clicks.send_times([FAR + 10_000] * 4, [0, 1, 2, 3])
        await until(lambda: len(clicks.windows()) > len(expected), "state survives")
    assert clicks.windows() == sorted([*expected, ("u0", FAR, 4)])


async def test_a_topic_behind_a_window_gets_each_of_its_rows_once_after_a_clean_restart(
    clicks: Clicks,
) -> None:
    out = f"{clicks.name}-out"

    def topology() -> sc.Topology:
        made = sc.Topology(clicks.name)
        stream = made.stream("clicks", Click, event_time="at", topic=clicks.topic)
        windows = stream.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)")
        windows.to(sc.sinks.Topic(out, create=True, partitions=2))
        return made

    async def rows() -> list[tuple[str, int, int]]:
        found = []
        for partition, bounds in (await clicks.log.bounds(out)).items():
            async for chunk in clicks.log.scan(out, partition, *bounds):
                found += [orjson.loads(value or b"") for value in chunk.values()]
        return sorted((row["user"], row["window_start"], row["n"]) for row in found)

    times = sorted(times_of(2_000))
    await clicks.send_times(times, [0] * len(times))
    await clicks.close_all()
    expected = counted(times)
    async with Working(clicks, topology()):
        for _ in range(300):
            if len(await rows()) >= len(expected):
                break
            await asyncio.sleep(0.1)
    async with Working(clicks, topology()):
        await clicks.send_times([FAR + 1_000] * 4, [0, 1, 2, 3])
        for _ in range(300):
            if len(await rows()) > len(expected):
                break
            await asyncio.sleep(0.1)
    assert await rows() == sorted([*expected, ("u0", FAR, 4)])


async def test_windows_do_not_wait_for_partitions_without_rows_and_close_by_the_clock_if_asked(
    clicks: Clicks,
) -> None:
    def topology(close_after: str | None) -> sc.Topology:
        made = sc.Topology(clicks.name)
        stream = made.stream(
            "clicks", Click, event_time="at", topic=clicks.topic, idle_after="1s", close_after=close_after
        )
        windows = stream.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)")
        windows.to(MemorySink("out", clicks.target))
        return made

    await clicks.send_times([100, 1_100, 2_100], [0, 0, 0])
    async with Working(clicks, topology(None)):
        await until(lambda: len(clicks.windows()) == 2, "the windows before the newest time")
    async with Working(clicks, topology("2s")):
        await until(lambda: len(clicks.windows()) == 3, "the last one, by the clock")
    assert clicks.windows() == [("u0", 0, 1), ("u0", 1_000, 1), ("u0", 2_000, 1)]


async def test_windows_in_processing_time_close_by_the_clock_and_have_each_row_once(clicks: Clicks) -> None:
    """Also when the worker is another one; three of the four partitions never get a row."""
    made = sc.Topology(clicks.name)
    stream = made.stream("clicks", Click, event_time=sc.PROCESSING_TIME, close_after="1s", topic=clicks.topic)
    stream.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)").to(MemorySink("out", clicks.target))

    def counted_in_all() -> int:
        return sum(n for _, _, n in clicks.windows())

    await clicks.send_times(list(range(100)), [0] * 100)
    async with Working(clicks, made):
        await until(lambda: counted_in_all() == 100, "all windows, by the clock")
    await clicks.send_times(list(range(50)), [1] * 50)
    async with Working(clicks, made):
        await until(lambda: counted_in_all() == 150, "those of the rows that came later")
    windows = [(user, start) for user, start, _ in clicks.windows()]
    assert len(windows) == len(set(windows))


async def test_an_isolated_replay_closes_all_windows_and_leaves_no_log(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = times_of(3_000)
    file = clicks.tmp_path / "clicks.jsonl"
    file.write_bytes(b"".join(orjson.dumps({"user": f"u{at % 50}", "at": at}) + b"\n" for at in times))
    sources, options = {"clicks": open_source(str(file))}, ReplayOptions(clicks.settings())
    seen: list[str] = []
    made = KafkaLog.create

    async def create(log: KafkaLog, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        seen.append(topic)
        return await made(log, topic, partitions, config)

    monkeypatch.setattr(KafkaLog, "create", create)
    summary = await feed_isolated(clicks.topology(), sources, options, lambda progress: None)
    assert (summary.status, summary.progress.rows_in) == ("finished", 3_000)
    assert clicks.windows() == counted(times)
    own = [topic for topic in seen if ".log.replay-" in topic]
    assert len(own) == 1
    assert not await clicks.log.bounds(own[0])
    again = await feed_isolated(clicks.topology(), sources, options, lambda progress: None)
    assert again.status == "already finished"
    assert clicks.windows() == counted(times)


async def test_another_declaration_of_a_window_with_state_is_refused_with_a_way_out(clicks: Clicks) -> None:
    await clicks.send_times([1, 2, 3], [0, 1, 2])
    async with Working(clicks, clicks.topology()):
        log = f"{clicks.name}.clicks-window.log"
        while not sum(bounds.end for bounds in (await clicks.log.bounds(log)).values()):
            await asyncio.sleep(0.1)
    working = Working(clicks, clicks.topology("2s"))
    with pytest.raises(sc.errors.BadConfig, match=r"1000000 is now 2000000.*name="):
        await working.task
