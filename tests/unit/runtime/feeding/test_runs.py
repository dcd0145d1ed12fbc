"""Whatever fails and wherever a process dies, a topic has every row of a replay once, in order."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.errors import Permanent, TopicChanged, Transient
from streamcore.runtime.feeding.marks import Mark, Marks
from streamcore.runtime.feeding.records import AT, REPLAY, Label, unpack_at
from streamcore.runtime.feeding.run import Runs
from streamcore.runtime.planning import plan
from streamcore.runtime.retry import Retries
from tests.unit.runtime.feeding.documents import Documents, topology
from tests.unit.runtime.feeding.torn_log import TornLog


def split_of(headers: tuple[tuple[str, bytes], ...]) -> int | None:
    label = Label.unpack(dict(headers)[REPLAY])
    return label.split if label else None


FAST = Retries(initial=0, longest=0, give_up_after=60)


def documents(count: int) -> tuple[bytes, ...]:
    """Every seventh is refused."""
    good = [json.dumps({"id": i % 50, "name": str(i)}).encode() for i in range(count)]
    return tuple(b"no json %d" % i if i % 7 == 3 else text for i, text in enumerate(good))


def runs(
    log: TornLog, source: Documents, mark: Mark | None = None, key: str | tuple[str, ...] = "id"
) -> Runs:
    plans = plan(topology(key).freeze(), {"people": source}, splits=4, into="topic")
    name = plans["people"].name
    marks = {"people": mark or Mark(name, 0, "people", dict.fromkeys(range(len(log.topics["people"])), 0))}
    return Runs(plans, marks, log, Marks(log, "people"), FAST, 1 << 20, None)


async def log_with(partitions: int, seed: int = 0, failures: int = 0) -> TornLog:
    log = TornLog(seed, failures)
    await log.create("people", partitions, {})
    await log.create("people.replays", 1, {})
    return log


def values(log: TornLog) -> list[bytes | None]:
    return [value for rows in log.topics["people"] for _, value, _ in rows]


def names(found: list[bytes | None]) -> Counter[str]:
    return Counter(
        v.decode() if v.startswith(b"no json") else json.loads(v)["name"] for v in found if v is not None
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 30), st.integers(0, 60), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_every_row_is_in_the_topic_once_though_appends_tear(
    seed: int, count: int, partitions: int, parts: int, keyed: bool
) -> None:
    async def run() -> None:
        log = await log_with(partitions, seed, failures=6)
        source = Documents(documents(count), parts)
        feeding = runs(log, source, key="id" if keyed else ())
        assert await feeding.feed(asyncio.Event(), lambda: None)
        feeding.close()
        assert names(values(log)) == names(list(source.documents))
        mark = (await Marks(log, "people").latest())[feeding.marks["people"].name]
        assert (mark.state, mark.rows) == ("ended", count)
        assert mark.ends == {p: len(rows) for p, rows in enumerate(log.topics["people"])}
        assert feeding.progress().rows_in == count
        for rows in log.topics["people"]:
            for split in range(parts):
                own = [dict(headers) for _, _, headers in rows if split_of(headers) == split]
                ats = [unpack_at(headers[AT]) for headers in own]
                assert ats == sorted(ats), "the rows of a split keep their order"

    asyncio.run(run())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 30), st.integers(1, 60), st.integers(1, 4), st.integers(1, 3))
def test_a_process_that_died_anywhere_is_gone_on_from(
    seed: int, count: int, partitions: int, parts: int
) -> None:
    """What a death leaves is a prefix of each partition, whatever came in between from others."""

    async def run() -> None:
        log, source = await log_with(partitions, seed), Documents(documents(count), parts)
        log.topics["people"][0].append((None, b'{"id": 1, "name": "live"}', ()))
        mark = runs(log, source).marks["people"]
        mark = Mark(mark.name, 0, "people", {p: len(rows) for p, rows in enumerate(log.topics["people"])})
        whole = runs(log, source, mark)
        assert await whole.feed(asyncio.Event(), lambda: None)
        whole.close()
        for partition, rows in enumerate(log.topics["people"]):
            keep = log._random.randint(mark.starts[partition], len(rows))
            log.topics["people"][partition] = [*rows[:keep], (None, b'{"id": 2, "name": "live"}', ())]
        left = len(values(log)) - 1 - partitions
        again = runs(log, source, mark)
        assert await again.feed(asyncio.Event(), lambda: None)
        again.close()
        expected = names(list(source.documents))
        expected["live"] = 1 + partitions
        assert names(values(log)) == expected
        assert again.marks["people"].rows == count
        assert again.progress().rows_in == count - left

    asyncio.run(run())


async def test_a_stop_ends_it_between_chunks_and_it_goes_on() -> None:
    log, source, stop = await log_with(2), Documents(documents(100)), asyncio.Event()
    first = runs(log, source)

    def look() -> None:
        stop.set()

    assert not await first.feed(stop, look)
    assert len(values(log)) < 100
    second = runs(log, source, first.marks["people"])
    assert await second.feed(asyncio.Event(), lambda: None)
    assert names(values(log)) == names(list(source.documents))


async def test_it_gives_up_when_nothing_but_failures_come() -> None:
    log = await log_with(2)

    async def down(topic: str) -> object:
        raise Transient("no broker")

    feeding = runs(log, Documents(documents(3)))
    feeding._retries = Retries(initial=0.001, longest=0.001, give_up_after=0.01)
    log.bounds = down  # type: ignore[method-assign, assignment]
    with pytest.raises(Permanent, match="feeding failed for"):
        await feeding.feed(asyncio.Event(), lambda: None)


@pytest.mark.parametrize("starts", [{0: 0}, {0: 0, 1: 5}])
async def test_a_topic_that_is_another_one_is_refused(starts: dict[int, int]) -> None:
    log = await log_with(2)
    with pytest.raises(TopicChanged, match="--again"):
        await runs(log, Documents(documents(3)), Mark("x", 0, "people", starts)).feed(
            asyncio.Event(), lambda: None
        )


async def test_marks_are_read_back_and_the_last_run_counts() -> None:
    log = await log_with(1)
    marks = Marks(log, "people")
    old, new = Mark("a", 0, "t", {0: 7}, "ended", {0: 9}, 2), Mark("a", 1, "t", {0: 9})
    for mark in (old, new, Mark("b", 0, "t", {0: 0})):
        await marks.write(mark)
    assert (await marks.latest())["a"] == new
