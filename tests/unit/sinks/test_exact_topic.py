"""The exactly-once topic's writer on transactions that the test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import polars as pl
import pytest

from streamcore.batch import PartitionId, Range
from streamcore.contracts import FlushReason, Lane, Records, SinkContext, Transactions
from streamcore.errors import BadConfig, Fenced, Permanent, Transient
from streamcore.sinks.appending import APPEND_ROWS
from streamcore.sinks.topic import Topic
from streamcore.testing.sink_world import COLUMNS, ORDERS, OTHERS, batches_of, empty_batch, frame_of


class HandTransactions:
    """Keeps what is committed; *fails* are errors of the next calls, raised after they took effect."""

    def __init__(self, lane: Lane) -> None:
        self.lane, self.position = lane, None
        self.rows: list[bytes] = []
        self.appended: list[bytes] = []
        self.fails: list[Exception] = []
        self.lost_before = False
        self.calls: list[str] = []

    async def open(self, start: int) -> int:
        self._called("open")
        self.appended = []
        self.position = start if self.position is None else self.position
        return self.position

    async def append(self, records: Records) -> None:
        self.appended += records.values.to_pylist()
        self._called("append")

    async def commit(self, position: int, records: Records | None = None) -> None:
        if records is not None:
            self.appended += records.values.to_pylist()
        if not (self.fails and self.lost_before):
            self.rows, self.appended = self.rows + self.appended, []
            self.position = position
        self._called("commit")

    async def close(self) -> None:
        self._called("close")

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.fails:
            raise self.fails.pop()


class HandLog:
    def __init__(self) -> None:
        self.lanes: dict[PartitionId, HandTransactions] = {}

    async def bounds(self, topic: str) -> Mapping[int, Range]:
        return {0: Range(0, 0)}

    def transactions(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> Transactions:
        return self.lanes.setdefault(lane.source, HandTransactions(lane))


class World:
    def __init__(self, memory_limit: int = 1 << 20) -> None:
        self.now, self.log = 100.0, HandLog()
        self.context = SinkContext(
            topology="t", sink="topic:out", columns=COLUMNS, key=(), event_time=None,
            clock=lambda: self.now, owner="w", refuse=None, memory_limit=memory_limit,
            crash_point=lambda name: None, log=self.log,
        )  # fmt: skip

    async def writer(self, **starts: int):
        writer = Topic("out", guarantee="exactly-once").writer(self.context)
        await writer.start()
        opened = await writer.open({ORDERS: starts.get("orders", 0), OTHERS: 0})
        return writer, opened


async def turned() -> None:
    """What the writer has begun comes to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


def rows(start: int, end: int, source: PartitionId = ORDERS):
    [batch] = batches_of(frame_of(range(start, end)), [], source, first=start)
    return batch


async def test_what_comes_after_a_pause_is_committed_at_once_and_the_next_waits_for_the_interval():
    world = World()
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    world.now += 7
    await writer.write(rows(0, 3))
    await turned()
    assert (len(lane.rows), lane.position) == (3, 3)
    world.now += 0.09
    await writer.write(rows(3, 5))
    await writer.write(empty_batch(ORDERS, 5, 9))
    assert await writer.flush(FlushReason.IDLE) == {ORDERS: 3, OTHERS: 0}
    await turned()
    assert lane.calls == ["open", "commit"], "their transaction is not open while they wait"
    world.now += 0.02  # since the last commit
    await writer.flush(FlushReason.TIMER)
    await turned()
    assert await writer.flush(FlushReason.TIMER) == {ORDERS: 9, OTHERS: 0}
    assert (len(lane.rows), lane.position) == (5, 9)
    world.now += 1
    await writer.flush(FlushReason.TIMER)
    await turned()
    assert lane.calls.count("commit") == 2, "nothing came"
    assert "commit" not in world.log.lanes[OTHERS].calls, "nothing came there"


async def test_many_rows_are_appended_before_their_commit_is_due():
    world = World(memory_limit=1 << 30)
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    await writer.write(rows(0, APPEND_ROWS))
    await turned()
    assert await writer.flush(FlushReason.IDLE) == {ORDERS: 0, OTHERS: 0}
    assert (len(lane.appended), lane.rows) == (APPEND_ROWS, [])


@pytest.mark.parametrize("reason", [FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE])
async def test_a_lasting_flush_commits_at_once(reason):
    world = World()
    writer, _ = await world.writer()
    await writer.write(rows(0, 3))
    assert await writer.flush(reason) == {ORDERS: 3, OTHERS: 0}


@pytest.mark.parametrize("done", [True, False], ids=["took effect", "did not"])
async def test_a_commit_whose_outcome_is_unknown_is_asked_for(done):
    world = World()
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    await writer.write(rows(0, 3))
    await writer.write(rows(3, 5))
    lane.fails, lane.lost_before = [Transient("reply lost")], not done
    with pytest.raises(Transient):
        await writer.flush(FlushReason.END)
    assert lane.calls[-1] == "open"
    await writer.write(rows(5, 6))
    assert (await writer.flush(FlushReason.END))[ORDERS] == 6
    assert len(lane.rows) == 6


async def test_a_batch_whose_append_fails_is_taken_and_comes_once():
    world = World()
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    lane.fails = [Transient("gone")]
    await writer.write(rows(0, APPEND_ROWS))
    await turned()
    with pytest.raises(Transient):
        await writer.write(rows(APPEND_ROWS, APPEND_ROWS + 2))
    await writer.write(rows(APPEND_ROWS, APPEND_ROWS + 2))
    await writer.flush(FlushReason.END)
    assert len(lane.rows) == len(set(lane.rows)) == APPEND_ROWS + 2


async def test_what_comes_while_a_commit_is_under_way_waits_for_the_next():
    world = World()
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    world.now += 1
    await writer.write(rows(0, 3))
    await writer.write(rows(3, 5))
    await writer.write(rows(5, 6))
    await turned()
    assert (lane.position, len(lane.rows)) == (3, 3)
    world.now += 0.2
    await writer.flush(FlushReason.IDLE)
    await turned()
    assert (lane.position, len(lane.rows)) == (6, 6)


async def test_over_its_memory_limit_it_commits_by_itself():
    world = World(memory_limit=1_000)
    writer, _ = await world.writer()
    await writer.write(rows(0, 100))
    assert world.log.lanes[ORDERS].position == 100


async def test_who_is_fenced_hears_it_at_once_and_each_time():
    world = World()
    writer, _ = await world.writer()
    lane = world.log.lanes[ORDERS]
    await writer.write(rows(0, 3))
    lane.fails, lane.lost_before = [Fenced("another"), Transient("producer fenced")], True
    with pytest.raises(Fenced):
        await writer.flush(FlushReason.END)
    lane.fails = [Fenced("another")]
    with pytest.raises(Fenced):
        await writer.flush(FlushReason.IDLE)


async def test_one_lane_that_fails_does_not_keep_the_others_from_their_commit():
    world = World()
    writer, _ = await world.writer()
    await writer.write(rows(0, 3))
    await writer.write(rows(0, 4, OTHERS))
    world.log.lanes[ORDERS].fails, world.log.lanes[ORDERS].lost_before = [Transient("gone")], True
    with pytest.raises(Transient):
        await writer.flush(FlushReason.END)
    assert world.log.lanes[OTHERS].position == 4


async def test_a_lane_that_could_not_be_opened_is_left_alone_until_it_is():
    """It knows nothing of where it stands: a flush of the others took that for a foreign position."""
    world = World()
    writer = Topic("out", guarantee="exactly-once").writer(world.context)
    lane = world.log.lanes[ORDERS] = HandTransactions(Lane("t", "topic:out", ORDERS, "w"))
    lane.position, lane.fails = 346, [Transient("gone")]
    with pytest.raises(Transient):
        await writer.open({ORDERS: 300, OTHERS: 0})
    assert lane.calls == ["open", "close"]
    assert world.log.lanes[OTHERS].calls == ["open", "close"]
    assert await writer.flush(FlushReason.END) == {}
    assert await writer.open({ORDERS: 300, OTHERS: 0}) == {ORDERS: 346, OTHERS: 0}


async def test_a_stored_position_that_nobody_here_wrote_stops_the_worker():
    world = World()
    writer, _ = await world.writer(orders=7)
    lane = world.log.lanes[ORDERS]
    await writer.write(rows(7, 9))
    lane.fails, lane.lost_before, lane.position = [Transient("gone")], True, 3
    with pytest.raises(Permanent, match="not one that this worker wrote"):
        await writer.flush(FlushReason.END)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"guarantee": "exactly once"}, "no such guarantee"),
        ({"guarantee": "exactly-once", "commit_seconds": 6}, "out of range"),
        ({"guarantee": "exactly-once", "position_headers": False}, "position headers"),
    ],
)
def test_wrong_options_are_found_when_the_topology_is_loaded(options, what):
    with pytest.raises(BadConfig, match=what):
        Topic("out", **options)


def test_the_guarantee_is_an_ability():
    exact, plain = Topic("out", guarantee="exactly-once").abilities, Topic("out").abilities
    assert exact.stores_positions
    assert exact.transactional
    assert exact.timer_seconds == 0.1
    assert not plain.stores_positions
    assert plain.timer_seconds == 1
    Topic("out", guarantee="exactly-once").check(pl.Schema(COLUMNS))
