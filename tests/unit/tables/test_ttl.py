"""Tables with a time to live, in a topology: what leaves them leaves their sinks and what is made of them."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing import Tombstone, TopologyDriver
from streamcore.topology import Topology

CLICK = {"user": "string", "page": "string", "at": "int64"}
HOUR = 3_600_000


def click(user: str, hours: float, page: str = "home") -> dict[str, object]:
    return {"user": user, "page": page, "at": int(hours * HOUR)}


def shop() -> Topology:
    topology = Topology("shop")
    clicks = topology.stream("clicks", CLICK, event_time="at", max_lateness="4h")
    users = clicks.by("user", ttl="8h").aggregate(n="count(*)", page="last(page)")
    users.to(sc.sinks.Topic("users"))
    users.by("page").aggregate(users="count(*)").to(sc.sinks.Topic("pages"))
    clicks.by("user", ttl="8h").top(2, order="at desc").to(sc.sinks.Topic("newest"))
    users.changelog().to(sc.sinks.Topic("changes"))
    return topology


@pytest.mark.parametrize("marker", [TopologyDriver.CUT, TopologyDriver.CRASH, TopologyDriver.CONFIRM])
def test_a_key_for_which_nothing_comes_leaves_the_table_and_what_is_made_of_it(marker):
    driver = TopologyDriver(shop())
    driver.push(
        "clicks", [click("ann", 0), marker, click("bob", 4), click("ann", 1), marker, click("ann", 0.5)]
    )
    assert {row["user"]: row["n"] for row in driver.rows("topic:users")} == {"ann": 3, "bob": 1}
    driver.push("clicks", [click("eve", 13.6, "cart"), marker])  # ann's end is at 9, bob's at 12
    assert {row["user"]: row["n"] for row in driver.rows("topic:users")} == {"bob": 1, "eve": 1}
    assert {row["page"]: row["users"] for row in driver.rows("topic:pages")} == {"home": 1, "cart": 1}
    assert {(row["user"], row["rank"]) for row in driver.rows("topic:newest")} == {("bob", 1), ("eve", 1)}
    gone = [(row["user"], row["n"]) for row in driver.rows("topic:changes") if row["op"] == "delete"]
    assert gone == [("ann", None)]
    driver.push("clicks", [click("ann", 14), marker, click("bob", 1)])  # ann begins anew, bob's row is late
    assert {row["user"]: row["n"] for row in driver.rows("topic:users")} == {"ann": 1, "bob": 1, "eve": 1}
    assert driver.counts["clicks/table", "late"] == 1
    driver.end()
    assert len(driver.rows("topic:users")) == 3


def test_rows_of_another_partition_that_is_read_later_join_what_would_have_begun_anew():
    topology = Topology("shop")
    clicks = topology.stream("clicks", CLICK, event_time="at")
    clicks.by("user", ttl="8h").aggregate(n="count(*)", pages="list(page)").to(sc.sinks.Topic("users"))
    clicks.by("user", ttl="8h").top(1, order="page").to(sc.sinks.Topic("first"))
    driver = TopologyDriver(topology, partitions=2)

    def now() -> tuple[int, list[str], str]:
        (user,), (first,) = driver.rows("topic:users"), driver.rows("topic:first")
        return user["n"], user["pages"], first["page"]

    driver.push("clicks", [click("ann", 1, "a"), driver.CUT, click("ann", 10, "c"), click("ann", 11, "d")])
    assert now() == (2, ["c", "d"], "c")  # the row of hour 1 is more than 8 hours older: another life
    driver.push("clicks", [click("ann", 0, "z"), driver.CRASH], partition=1)
    assert now() == (2, ["c", "d"], "c")
    driver.push("clicks", [click("ann", 5, "b"), driver.CONFIRM], partition=1)
    assert now() == (5, ["z", "a", "b", "c", "d"], "a")


def test_a_changelog_s_rows_live_by_their_event_time_and_tombstones_need_none():
    topology = Topology("shop")
    users = topology.table("clicks", CLICK, key="user", event_time="at")
    users.by("user", ttl="8h").latest().to(sc.sinks.Topic("users"))
    driver = TopologyDriver(topology)
    driver.push("clicks", [click("ann", 0), click("bob", 1), Tombstone(b"ann"), {"user": "eve"}])
    assert [row["user"] for row in driver.rows("topic:users")] == ["bob"]
    assert [letter.code for letter in driver.dead_letters] == ["no_time"]
    driver.push("clicks", [click("eve", 9.6)])
    assert [row["user"] for row in driver.rows("topic:users")] == ["eve"]


def stream(**options: object) -> sc.Stream:
    return Topology("t").stream("clicks", CLICK, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: stream().by("user", ttl="8h").aggregate(n="count(*)"), "no event time, and ttl="),
        (lambda: stream(event_time="at").by("user", ttl="0s").top(1, order="at"), "longer than no time"),
        (lambda: stream(event_time="at").by("user", ttl="8 parsecs").latest(), "parsecs"),
        (lambda: stream(event_time="at").by("user", ttl="8h").first(), "within="),
        (lambda: stream(event_time="at").by("usr", ttl="8h").latest(), "allowed: user, page, at"),
        (
            lambda: (
                stream(event_time="at")
                .by("user")
                .aggregate(n="count(*)")
                .by("n", ttl="8h")
                .aggregate(m="count(*)")
            ),
            "takes no ttl",
        ),
    ],
)
def test_a_ttl_that_can_t_be_is_said_with_its_line_when_it_is_loaded(declare, says):
    with pytest.raises(BadConfig, match=says) as raised:
        declare()
    assert __file__ in str(raised.value)
