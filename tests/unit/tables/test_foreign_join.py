"""A table joined with another by that one's key, in a topology: what is declared, cuts and crashes."""

from __future__ import annotations

import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import OP_DELETE, OP_UPDATE_AFTER
from streamcore.errors import BadConfig
from streamcore.stream import Stream
from streamcore.testing import Tombstone, TopologyDriver
from streamcore.topology import Topology

Rows = dict[object, tuple[object, ...]]


def customers_of(topology: Topology) -> Stream:
    return topology.table("customers", {"name": "string", "city": "string"}, key="name")


def tables(topology: Topology) -> tuple[Stream, Stream]:
    orders = topology.table("orders", {"id": "int64", "customer": "string", "amount": "int64"}, key="id")
    return orders, customers_of(topology)


def shop(how: str = "inner") -> Topology:
    topology = Topology("shop")
    orders, customers = tables(topology)
    found = orders.join(customers, on={"customer": "name"}, how=how)  # type: ignore[arg-type]
    found.to(sc.sinks.Topic("found"))
    found.by("city").aggregate(n="count(*)", total="sum(amount)").to(sc.sinks.Topic("cities"))
    return topology


def order(id: int, customer: str | None, amount: int = 1) -> dict[str, object]:
    return {"id": id, "customer": customer, "amount": amount}


def customer(name: str, city: str) -> dict[str, object]:
    return {"name": name, "city": city}


def found(driver: TopologyDriver) -> Rows:
    return {row["id"]: (row["customer"], row["amount"], row["city"]) for row in driver.rows("topic:found")}


def cities(driver: TopologyDriver) -> Rows:
    return {row["city"]: (row["n"], row["total"]) for row in driver.rows("topic:cities")}


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH, TopologyDriver.CONFIRM])
@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_change_of_either_side_updates_the_rows_that_it_is_about(how, marker):
    driver, left = TopologyDriver(shop(how)), how == "left"
    driver.push("orders", [order(1, "ann"), marker, order(2, "bob"), order(3, None), marker])
    assert found(driver) == ({1: ("ann", 1, None), 2: ("bob", 1, None), 3: (None, 1, None)} if left else {})
    driver.push("customers", [customer("ann", "Rome"), marker, customer("bob", "Oslo")])
    alone: Rows = {3: (None, 1, None)} if left else {}
    assert found(driver) == {1: ("ann", 1, "Rome"), 2: ("bob", 1, "Oslo")} | alone
    driver.push("orders", [order(1, "bob", 5), marker, order(4, "ann")])
    assert found(driver) == {1: ("bob", 5, "Oslo"), 2: ("bob", 1, "Oslo"), 4: ("ann", 1, "Rome")} | alone
    driver.push(
        "customers", [customer("bob", "Bari"), marker, customer("ann", "Ulm"), Tombstone(b"ann"), marker]
    )
    gone: Rows = {4: ("ann", 1, None)} if left else {}
    assert found(driver) == {1: ("bob", 5, "Bari"), 2: ("bob", 1, "Bari")} | gone | alone
    assert cities(driver) == {"Bari": (2, 6)} | ({None: (2, 2)} if left else {})
    driver.push("orders", [Tombstone(b"1"), marker, order(3, "bob"), order(2, "cid"), Tombstone(b"2")])
    assert found(driver) == {3: ("bob", 1, "Bari")} | gone


def test_where_the_foreign_key_is_part_of_the_key_one_log_is_enough():
    topology = Topology("shop")
    columns = {"customer": "string", "number": "int64", "amount": "int64"}
    orders = topology.stream("orders", columns).by("customer", "number").latest()
    orders.join(customers_of(topology), on={"customer": "name"}, name="found").to(sc.sinks.Topic("found"))
    assert [id for id in topology.freeze().stateful if "found" in id] == ["found"]
    driver = TopologyDriver(topology)
    driver.push("orders", [{"customer": "ann", "number": n, "amount": n} for n in (1, 2)])
    driver.push("customers", [customer("ann", "Rome"), driver.CUT, customer("ann", "Ulm")])
    rows = [(row["customer"], row["number"], row["city"]) for row in driver.rows("topic:found")]
    assert sorted(rows) == [("ann", 1, "Ulm"), ("ann", 2, "Ulm")]


def test_of_the_pairs_that_are_there_while_a_row_moves_the_newest_is_shown():
    topology = Topology("shop")
    orders, customers = tables(topology)
    newest = orders.join(customers, on={"customer": "name"}).node.part.operator  # type: ignore[union-attr]
    told = [("ann", 3, "Rome", 1), ("bob", 7, "Oslo", 1), ("ann", 3, "Ulm", 1), ("ann", 3, "Ulm", 0)]
    rows = [
        {"id": 1, "customer": name, "amount": 1, "_version": version, "name": name, "city": city}
        | {"_op": OP_UPDATE_AFTER if there else OP_DELETE, "_offset": 0}
        for name, version, city, there in told
    ]
    state, seen = newest.empty, []
    for row in rows:
        frame = pl.DataFrame([row], schema=newest.no_rows.schema)
        state, emission, _ = newest.apply(state, [frame], 0)
        seen += newest.finish(emission)["city"].to_list()
    assert seen == ["Rome", "Oslo", "Oslo", "Oslo"]


def test_a_topology_names_its_logs_by_the_join():
    assert [id for id in shop().freeze().stateful if "join" in id] == [
        "orders/join/left-moves",
        "orders/join/pairs",
        "orders/join",
    ]


def test_what_can_t_be_joined_is_said_when_it_is_loaded():
    topology = Topology("shop")
    orders, customers = tables(topology)
    named, on = orders.rename({"amount": "_version"}), {"customer": "name"}
    for declare, says in [
        (lambda: orders.join(customers, on=on, how="full"), "no full join of tables by a foreign key"),
        (lambda: orders.join(customers, on={"customer": "city"}), "by the key of that one.*turn the join"),
        (lambda: customers.join(orders, on={"name": "customer"}), "by the key of that one.*turn the join"),
        (lambda: orders.join(customers, on={"id": "name"}), "can't be compared"),
        (lambda: named.join(customers, on=on), "needs this column's name, got '_version'"),
        (lambda: orders.join(customers, on=on, within="1h"), "does not go with two tables"),
    ]:
        with pytest.raises(BadConfig, match=says) as refused:
            declare()
        assert "test_foreign_join.py" in str(refused.value)
