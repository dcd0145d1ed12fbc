"""The rule ``unique`` in a topology: what becomes of duplicates, and what lies behind."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.errors import BadConfig, Permanent
from streamcore.testing import TopologyDriver
from streamcore.topology import Topology

ORDER = {"id": "int64", "customer": "string", "at": "int64"}
HOUR = 3_600_000
rules = sc.rules


def order(id: int | None, at: float = 0, customer: str = "ann") -> dict[str, object]:
    return {"id": id, "customer": customer, "at": int(at * HOUR)}


def checked(*given: rules.Rule, time: str | None = None, **options: object) -> TopologyDriver:
    topology = Topology("shop")
    orders = topology.stream("orders", ORDER, event_time=time)
    orders.validate(*given, **options).to(sc.sinks.Topic("out"))  # type: ignore[arg-type]
    return TopologyDriver(topology)


def ids(driver: TopologyDriver) -> list[object]:
    return [row["id"] for row in driver.rows("topic:out")]


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH, TopologyDriver.CONFIRM])
def test_duplicates_are_dead_letters_once_whatever_happens(marker):
    driver = checked(rules.unique("id"))
    driver.push("orders", [order(1), marker, order(2), order(1), marker, order(None), order(None), marker])
    driver.push("orders", [order(2), marker, order(3), driver.CRASH, order(3)])
    assert ids(driver) == [1, 2, None, None, 3]
    assert [(d.stage, d.code, d.offset) for d in driver.dead_letters] == [
        ("orders/duplicates", "unique", 2),
        ("orders/duplicates", "unique", 5),
        ("orders/duplicates", "unique", 7),
    ]
    assert driver.dead_letters[0].message == "unique: id"


def test_several_columns_and_a_bound_in_time():
    driver = checked(rules.unique(["id", "customer"], within="1h"), time="at")
    driver.push("orders", [order(1, 0), order(1, 0, "bob"), order(1, 1), order(1, 1.5), order(1, 2, "bob")])
    assert [(row["customer"], row["at"] / HOUR) for row in driver.rows("topic:out")] == [
        ("ann", 0),
        ("bob", 0),
        ("ann", 1.5),
        ("bob", 2),
    ]


def test_other_rules_come_first_and_flags_are_put_together():
    big = rules.range("id", max=9, severity="warning")
    driver = checked(
        rules.not_null("customer"), big, rules.unique("id", severity="warning"), flag_column="flags"
    )
    driver.push("orders", [order(10, customer=None), order(10), order(1), order(10), order(1)])  # type: ignore[arg-type]
    assert [(row["id"], row["flags"]) for row in driver.rows("topic:out")] == [
        (10, ["range(id)"]),
        (1, []),
        (10, ["range(id)", "unique(id)"]),
        (1, ["unique(id)"]),
    ]
    assert [d.code for d in driver.dead_letters] == ["not_null"]
    assert driver.counts["orders/duplicates", "rule:unique(id):failed"] == 2


def test_several_unique_rules_each_have_a_state_of_their_own():
    driver = checked(rules.unique("id", on_fail="drop"), rules.unique("customer"), name="check")
    driver.push("orders", [order(1), order(1), order(2, customer="bob"), order(3)])
    assert ids(driver) == [1, 2]
    assert [(d.stage, d.code) for d in driver.dead_letters] == [("check/duplicates-2", "unique")]
    assert set(driver.graph.stateful) == {"check/unique", "check/unique-2"}


def test_a_rule_that_stops_stops():
    driver = checked(rules.unique("id", on_fail="stop"))
    with pytest.raises(Permanent, match=r"rule 'unique\(id\)'"):
        driver.push("orders", [order(1), order(1)])


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH])
def test_windows_behind_it_have_the_rows_that_were_not_late(marker):
    topology = Topology("shop")
    orders = topology.stream("orders", ORDER, event_time="at")
    passed = orders.validate(rules.unique("id"))
    passed.window(sc.tumbling("1h")).aggregate(n="count(*)").to(sc.sinks.Topic("hours"))
    passed.to(sc.sinks.Topic("out"))
    passed.late().to(sc.sinks.Topic("late"))
    driver = TopologyDriver(topology)
    driver.push(
        "orders", [order(1, 0.1), marker, order(1, 0.2), order(2, 0.7), marker, order(3, 0.5), marker]
    )
    driver.end()
    assert [row["n"] for row in driver.rows("topic:hours")] == [2]
    assert ids(driver) == [1, 2, 3]
    assert [row["id"] for row in driver.rows("topic:late")] == [3]


def test_a_late_row_fails_a_bound_in_time():
    driver = checked(rules.unique("id", within="1h"), time="at")
    driver.push("orders", [order(1, 5), order(2, 4)])
    assert ids(driver) == [1]
    assert [d.code for d in driver.dead_letters] == ["unique"]


def test_the_rule_is_read_from_configuration():
    given = {
        "rule_id": "one order",
        "rule_type": "unique",
        "column": ["id", "customer"],
        "parameters": {"within": "1h"},
        "severity": "warning",
    }
    rule = rules.from_dict(given)
    assert rule == rules.unique(["id", "customer"], within="1h", rule_id="one order", severity="warning")
    assert rules.from_dict({"rule_type": "unique", "column": "id"}) == rules.unique("id")


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: checked(rules.unique("idd")), "did you mean 'id'"),
        (lambda: checked(rules.unique(["id", "id"])), "a column is there twice"),
        (lambda: checked(rules.unique([])), "unique needs a column"),
        (lambda: checked(rules.unique("id", within="1h")), "no event time, and within="),
        (lambda: checked(rules.unique("id", within="1 parsec")), "parsec"),
        (lambda: checked(rules.unique("id"), rules.unique("id")), "two rules have one id"),
        (lambda: checked(rules.unique("id"), on_fail="shrug"), "unknown on_fail"),
        (lambda: checked(rules.unique("id"), flag_column="at"), "flag_column is there already"),
        (lambda: rules.from_dict({"rule_type": "unique"}), "column is missing"),
        (lambda: sc.Topology("t").table("o", ORDER, key="id").validate(rules.unique("id")), "can't follow"),
    ],
)
def test_what_can_t_be_unique_is_said_when_it_is_loaded(declare, says):
    with pytest.raises(BadConfig, match=says):
        declare()
