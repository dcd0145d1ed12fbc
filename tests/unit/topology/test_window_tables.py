"""Windows as a table in a topology: from their first row on, and under which names."""

from __future__ import annotations

import streamcore as sc
from streamcore.contracts import SinkAbilities
from streamcore.testing import TopologyDriver
from tests.unit.topology.collecting import Collect

RIGHT = {"of": "int64", "seen": "int64", "word": "string"}


class Upserting(Collect):
    abilities = SinkAbilities(append=False, upsert=True, delete=True)


def test_windows_as_a_table_are_there_from_their_first_row_on():
    topology = sc.Topology("t")
    right = topology.stream("right", RIGHT, event_time="seen")
    counts = right.window(sc.tumbling("10s")).by("word").table(n="count(*)", newest="last(of)")
    counts.drop("window_end").to(Upserting("now"))
    driver = TopologyDriver(topology)
    driver.push("right", [{"of": i, "seen": i * 4_000, "word": "a"} for i in range(4)])
    rows = [(row["window_start"], row["n"], row["newest"]) for row in driver.rows("now")]
    assert rows == [(0, 3, 2), (10_000, 1, 3)]
    driver.push("right", [driver.CRASH, {"of": 9, "seen": 16_000, "word": "a"}])
    assert [row["n"] for row in driver.rows("now")] == [3, 2]


def test_sessions_as_a_table_leave_it_under_the_start_that_is_theirs_no_more():
    topology = sc.Topology("t")
    right = topology.stream("right", RIGHT, event_time="seen", max_lateness="1m")
    sessions = right.window(sc.session("10s")).by("word").table(n="count(*)", ids="list(of)")
    sessions.drop("window_end").to(Upserting("now"))
    sessions.changelog().to(Collect("all"))
    driver = TopologyDriver(topology)

    def now() -> list[tuple[object, ...]]:
        return [(row["window_start"], row["n"], row["ids"]) for row in driver.rows("now")]

    driver.push("right", [{"of": of, "seen": seen, "word": "a"} for of, seen in ((1, 10_000), (2, 30_000))])
    assert now() == [(10_000, 1, [1]), (30_000, 1, [2])]
    driver.push("right", [driver.CRASH, {"of": 3, "seen": 20_000, "word": "a"}])
    assert now() == [(10_000, 3, [1, 3, 2])]
    driver.push("right", [{"of": 4, "seen": 5_000, "word": "a"}, {"of": 5, "seen": 200_000, "word": "b"}])
    assert now() == [(5_000, 4, [4, 1, 3, 2]), (200_000, 1, [5])]
    assert [row["window_start"] for row in driver.rows("all") if row["op"] == "delete"] == [30_000, 10_000]
