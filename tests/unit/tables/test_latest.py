"""Tables of the latest row by key: of changelogs with tombstones, of CDC rows, of any stream."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing import Tombstone, TopologyDriver
from streamcore.topology import Topology

CUSTOMER = {"id": "int64", "name": "string", "op": "string"}
ANN, BOB = {"id": 1, "name": "ann", "op": "c"}, {"id": 2, "name": "bob", "op": "c"}


def test_a_changelog_is_a_table_for_sinks_joins_and_aggregates():
    topology = Topology("shop")
    customers = topology.table("customers", CUSTOMER, key="id", deleted="op = 'd'")
    customers.filter("name <> 'eve'").select("id", "name").to(sc.sinks.Topic("sink"))
    customers.by("name").aggregate(n="count(*)").to(sc.sinks.Topic("names"))
    orders = topology.stream("orders", {"customer": "int64"})
    orders.join(customers, on={"customer": "id"}).select("customer", "name").to(sc.sinks.Topic("joined"))
    driver = TopologyDriver(topology)

    driver.push("customers", [ANN, BOB, {**BOB, "id": 3}, {"id": 4, "name": "eve"}])
    assert driver.rows("topic:sink") == [
        {"id": 1, "name": "ann"},
        {"id": 2, "name": "bob"},
        {"id": 3, "name": "bob"},
    ]
    driver.push("customers", [Tombstone(b"1"), driver.CUT, {"id": 2, "op": "d"}, {**BOB, "name": "bert"}])
    driver.push("customers", [{"id": 3, "name": "eve", "op": "u"}])
    assert driver.rows("topic:sink") == [{"id": 2, "name": "bert"}]
    assert {row["name"]: row["n"] for row in driver.rows("topic:names")} == {"bert": 1, "eve": 2}
    driver.push("orders", [{"customer": 1}, {"customer": 2}])
    assert driver.rows("topic:joined") == [{"customer": 2, "name": "bert"}]
    assert driver.dead_letters == []


def test_tombstones_of_a_stream_that_is_no_table_stay_dead_letters():
    topology = Topology("shop")
    topology.stream("customers", CUSTOMER, key="id").by("id").latest().to(sc.sinks.Topic("sink"))
    driver = TopologyDriver(topology)
    driver.push("customers", [ANN, Tombstone(b"1")])
    assert driver.rows("topic:sink") == [ANN]
    assert [letter.code for letter in driver.dead_letters] == ["tombstone"]


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH, TopologyDriver.CONFIRM])
def test_latest_keeps_a_table_whatever_happens_on_the_way(marker):
    topology = Topology("shop")
    stream = topology.stream("customers", CUSTOMER)
    stream.by("id").latest(deleted="op = 'd'").drop("op").to(sc.sinks.Topic("sink"))
    driver = TopologyDriver(topology)
    driver.push("customers", [ANN, marker, BOB, {**ANN, "name": "anna"}, marker])
    driver.push("customers", [{"id": 2, "name": None, "op": "d"}, driver.CRASH, {**BOB, "id": 3}, marker])
    assert driver.rows("topic:sink") == [{"id": 1, "name": "anna"}, {"id": 3, "name": "bob"}]


def declared(**options: object) -> sc.Stream:
    return Topology("t").table("customers", CUSTOMER, **{"key": "id", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: declared(key=()), "has no key"),
        (lambda: declared(key="idd"), "did you mean 'id'"),
        (lambda: declared(key=("id", "id")), "a column is there twice"),
        (lambda: declared(deleted="ops = 'd'"), "did you mean 'op'"),
        (lambda: declared(deleted="id"), "id"),
        (lambda: declared(key_format="jsn"), "unknown key_format"),
        (lambda: declared(format="raw"), "raw ones"),
        (lambda: declared().drop("id"), "a table's key must stay"),
        (lambda: declared().by("name").latest(), "a table is kept by its key, got 'name'"),
        (lambda: declared().by("id").latest(deleted="nam = 'x'"), "did you mean 'name'"),
        (lambda: declared().by().latest(), "a table is kept by its key"),
        (lambda: declared().validate(sc.rules.not_null("id")), "validate can't follow a table"),
        (lambda: declared().to(sc.sinks.Parquet("out")), "can only append"),
    ],
)
def test_what_can_t_be_such_a_table_is_said_with_its_line_when_it_is_loaded(declare, says):
    with pytest.raises(BadConfig, match=says) as raised:
        declare()
    assert __file__ in str(raised.value)
