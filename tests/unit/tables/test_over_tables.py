"""What is made of tables: their best rows, and their changes with what they take back."""

from __future__ import annotations

from collections import Counter

import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing import Tombstone, TopologyDriver
from streamcore.topology import Topology

SALE = {"shop": "string", "city": "string", "amount": "int64"}


def sale(shop: str, amount: int, city: str = "Rome") -> dict[str, object]:
    return {"shop": shop, "city": city, "amount": amount}


def shops() -> Topology:
    topology = Topology("shops")
    sales = topology.stream("sales", SALE)
    totals = sales.by("shop").aggregate(city="last(city)", total="cast(sum(amount) as bigint)")
    totals.by("city").top(2, order="total desc, shop").to(sc.sinks.Topic("best"))
    totals.changelog(before=True).to(sc.sinks.Topic("changes"))
    return topology


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH, TopologyDriver.CONFIRM])
def test_the_best_rows_of_a_table_follow_its_changes(marker):
    driver = TopologyDriver(shops())
    driver.push("sales", [sale("a", 5), marker, sale("b", 3), sale("c", 1), marker, sale("c", 9)])
    assert _best(driver) == {("Rome", 1): ("c", 10), ("Rome", 2): ("a", 5)}
    driver.push("sales", [sale("a", -4), marker, sale("c", 0, "Oslo"), marker])
    assert _best(driver) == {("Oslo", 1): ("c", 10), ("Rome", 1): ("b", 3), ("Rome", 2): ("a", 1)}


def _best(driver: TopologyDriver) -> dict[tuple[object, object], tuple[object, object]]:
    rows = driver.rows("topic:best")
    return {(row["city"], row["rank"]): (row["shop"], row["total"]) for row in rows}


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH])
def test_what_changes_take_back_and_add_is_the_table_in_the_end(marker):
    driver = TopologyDriver(shops())
    driver.push("sales", [sale("a", 5), marker, sale("a", 0), sale("b", 3), marker, sale("a", 1), marker])
    kept: Counter[tuple[object, ...]] = Counter()
    for row in driver.rows("topic:changes"):
        adds = row["op"] in ("insert", "update_after")
        kept[row["shop"], row["city"], row["total"]] += 1 if adds else -1
    assert {row: n for row, n in kept.items() if n} == {("a", "Rome", 6): 1, ("b", "Rome", 3): 1}


def test_a_deletion_takes_back_the_row_as_it_was():
    topology = Topology("shops")
    topology.table("sales", SALE, key="shop").changelog(before=True).to(sc.sinks.Topic("changes"))
    driver = TopologyDriver(topology)
    driver.push("sales", [sale("a", 5), sale("a", 5), sale("a", 6), Tombstone(b"a"), Tombstone(b"a")])
    assert [(row["op"], row["amount"], row["number"]) for row in driver.rows("topic:changes")] == [
        ("insert", 5, 1),
        ("update_before", 5, 4),
        ("update_after", 6, 5),
        ("delete", 6, 6),
    ]


def test_what_can_t_be_made_of_a_table_is_said_when_it_is_loaded():
    table = Topology("t").stream("sales", SALE).by("shop").aggregate(n="count(*)")
    for declare, says in [
        (lambda: table.by("n").top(1_001, order="shop"), "1 to 1000"),
        (lambda: table.by("m").top(1, order="shop"), "unknown column"),
        (lambda: table.by("n").top(2, order="shop", rank="n"), "rank's name"),
        (lambda: table.by("n", ttl="1h").top(1, order="shop"), "takes no ttl"),
        (lambda: table.changelog(before=True, op="n"), "can't be the name of a new column"),
        (lambda: table.changelog(before=True, op="x", number="x"), "can't be the name of a new column"),
    ]:
        with pytest.raises(BadConfig, match=says):
            declare()
