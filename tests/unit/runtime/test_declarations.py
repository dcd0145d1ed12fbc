"""What differs between two declarations, in words; and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

import streamcore as sc
from streamcore.batch import PartitionId, Range
from streamcore.errors import BadConfig, Permanent
from streamcore.runtime.declarations import Declaration, changes, check_declarations
from streamcore.runtime.repeated import from_now_on
from streamcore.runtime.state_logs import made_logs
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.unit.topology.collecting import Collect

STEPS = ("stream orders (id, at)", "filter id > 3", "add_column x (id * 2)")
NOW = Declaration(
    "orders/table", "shop.orders-table.log", 4, "d1",
    "('group', ('id',), {'n': 'count(*)', 'total': 'sum(x)'})", STEPS, "shop.py:7",
)  # fmt: skip


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(NOW, computes=NOW.computes.replace("sum(x)", "avg(x)")), ["'sum(x)' is now 'avg(x)'"]),
        (replace(NOW, steps=(*STEPS[:2], "filter x < 9", STEPS[2])), ["filter x < 9 is new"]),
        (replace(NOW, steps=(STEPS[0], STEPS[2])), ["filter id > 3 is gone"]),
        (replace(NOW, steps=(STEPS[0], "filter id > 4", STEPS[2])), ["filter id > 3 is now filter id > 4"]),
        (replace(NOW, steps=("a", "b", "c", "d")), [
            "stream orders (id, at) is gone", "filter id > 3 is gone", "add_column x (id * 2) is gone",
            "and 4 more",
        ]),
        (NOW, ["it was made by another version of streamcore"]),
    ],
)  # fmt: skip
def test_changes_are_said_in_words(other, said):
    assert changes(NOW, other) == said


@pytest.fixture
def log():
    broker = Broker.open("embedded://declarations")
    yield EmbeddedLog(broker)
    broker.close()


async def test_the_first_declaration_is_kept_and_each_later_one_compared(log):
    await check_declarations(log, "shop", [NOW], {NOW.log})
    other = replace(NOW, node="orders/join", log="shop.orders-join.log")
    await check_declarations(log, "shop", [replace(NOW, where="shop.py:9"), other], {other.log})
    changed = replace(NOW, digest="d2", steps=STEPS[:2])
    with pytest.raises(BadConfig, match=r"^shop.py:7: 'orders/table' is not what .*add_column x .* is gone"):
        await check_declarations(log, "shop", [changed], set())
    with pytest.raises(Permanent, match="got 6, allowed: 4"):
        await check_declarations(log, "shop", [replace(NOW, partitions=6)], set())
    with pytest.raises(Permanent, match="is gone, and with it the state"):
        await check_declarations(log, "shop", [NOW], {NOW.log})
    await check_declarations(log, "shop", [NOW, other], set())


async def test_a_refused_start_writes_nothing_down(log):
    await check_declarations(log, "shop", [NOW], {NOW.log})
    with pytest.raises(BadConfig):
        await check_declarations(
            log, "shop", [replace(NOW, log="new.log"), replace(NOW, digest="d2")], {"new.log"}
        )
    assert (await log.bounds("shop.declarations"))[0] == Range(0, 1)


def graph_of(table: bool):
    topology = sc.Topology("shop")
    stream = topology.stream("orders", {"id": "int64", "user": "int64"})
    users = stream.by("user").aggregate(n="count(*)")
    (users if table else users.changelog()).to(sc.sinks.Topic("out"))
    return topology.freeze()


SOURCE = PartitionId("shop/orders/table", 0, "node/x")


def test_a_new_sink_is_brought_to_the_first_result_that_can_be_made_again():
    batch = from_now_on(graph_of(table=False), "topic:out", SOURCE, 0, 90)
    assert batch.covered == {SOURCE: Range(0, 90)}
    assert batch.rows.is_empty()
    assert batch.rows.columns == ["user", "n", "op", "number"]


@pytest.mark.parametrize(("table", "position"), [(False, 40), (True, 0)], ids=["lags", "half a table"])
def test_a_sink_that_would_lack_something_is_refused(table, position):
    with pytest.raises(Permanent, match="can't be made again"):
        from_now_on(graph_of(table), "topic:out", SOURCE, position, 90)


class Racing(EmbeddedLog):
    """Who makes a log first is held up until another worker has started."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.go_on: asyncio.Event | None = None

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        made = await super().create(topic, partitions, config)
        if self.go_on is not None:
            await self.go_on.wait()
        return made


async def test_two_workers_that_start_at_once_do_not_take_the_log_for_gone():
    broker = Broker("embedded://declared-at-once")
    topology = sc.Topology("t")
    topology.stream("users", {"user": "string"}).by("user").aggregate(n="count(*)", name="n").changelog().to(
        Collect("out")
    )
    graph, slow, fast = topology.freeze(), Racing(broker), EmbeddedLog(broker)
    slow.go_on = asyncio.Event()
    first = asyncio.ensure_future(made_logs(graph, slow, {"users": "users"}, {"users": 1}))
    await asyncio.sleep(0.01)
    assert "t.n.log" in await fast.topics()
    second = await made_logs(graph, fast, {"users": "users"}, {"users": 1})
    slow.go_on.set()
    assert await first == second
    broker.delete("t.n.log")
    for _ in range(2):  # a refused start does not make it, or the next one would begin without the state
        with pytest.raises(Permanent, match="is gone, and with it the state"):
            await made_logs(graph, fast, {"users": "users"}, {"users": 1})
    broker.close()
