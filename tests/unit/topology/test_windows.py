"""Windows in a topology, through the driver: when they close, what is late, and what a crash takes back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing.driver import Marker, TopologyDriver
from streamcore.windows.assigners import WindowKind
from tests.unit.topology.collecting import Collect


class Click(sc.Event):
    user: str | None = None
    at: int | None = None
    n: int = 1


def clicks(kind: WindowKind, lateness: str = "0s") -> sc.Topology:
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at", max_lateness=lateness)
    counted = stream.window(kind).by("user").aggregate(clicks="count(*)", total="sum(n)")
    counted.to(Collect("all"))
    counted.filter("clicks > 1").to(Collect("many"))
    stream.to(Collect("raw"))
    return topology


def click(at: int | None, user: str | None = "ann", n: int = 1) -> dict[str, object]:
    return {"user": user, "at": at, "n": n}


def row(start: int, end: int, clicks: int, total: int, user: str | None = "ann") -> dict[str, object]:
    return {"user": user, "window_start": start, "window_end": end, "clicks": clicks, "total": total}


def test_a_window_closes_when_the_event_time_has_passed_its_end():
    driver = TopologyDriver(clicks(sc.tumbling("1s")))
    driver.push("clicks", [click(100), click(999, n=5), click(999, "bob")])
    assert driver.rows("all") == []
    driver.push("clicks", [click(1_000)])
    assert driver.rows("all") == [row(0, 1_000, 2, 6), row(0, 1_000, 1, 1, "bob")]
    assert driver.rows("many") == [row(0, 1_000, 2, 6)]
    driver.end()
    assert driver.rows("all")[2:] == [row(1_000, 2_000, 1, 1)]
    assert len(driver.rows("raw")) == 4, "the stream itself goes its own way"


def test_rows_may_be_late_by_max_lateness_and_later_ones_are_counted_and_left_out():
    driver = TopologyDriver(clicks(sc.tumbling("1s"), lateness="500ms"))
    driver.push("clicks", [click(900), click(1_400), click(950), click(1_500), click(999), click(1_000)])
    driver.end()
    assert driver.rows("all") == [row(0, 1_000, 2, 2), row(1_000, 2_000, 3, 3)]
    assert driver.counts["clicks/window", "late"] == 1
    assert len(driver.rows("raw")) == 6


def test_a_row_without_a_time_is_a_dead_letter_of_the_window_only():
    driver = TopologyDriver(clicks(sc.tumbling("1s")))
    driver.push("clicks", [click(None), click(1)])
    driver.end()
    assert driver.rows("all") == [row(0, 1_000, 1, 1)]
    ((letter),) = driver.dead_letters
    assert (letter.stage, letter.code, letter.offset) == ("clicks/window", "no_time", 0)
    assert len(driver.rows("raw")) == 2


def test_a_window_waits_for_every_partition_that_feeds_it():
    driver = TopologyDriver(clicks(sc.tumbling("1s")), partitions=2)
    driver.push("clicks", [click(100), click(5_000)], partition=0)
    assert driver.rows("all") == []
    driver.push("clicks", [click(200), click(2_500)], partition=1)
    assert driver.rows("all") == [row(0, 1_000, 2, 2)], "nothing is late: each partition has its own time"
    driver.end()
    assert [r["window_start"] for r in driver.rows("all")] == [0, 2_000, 5_000]


def test_a_sum_beyond_64_bits_is_a_dead_letter_and_its_neighbours_pass():
    driver = TopologyDriver(clicks(sc.tumbling("1s")))
    driver.push("clicks", [click(1, "ann", 2**63 - 1), click(2, "ann", 2**63 - 1), click(3, "bob")])
    driver.end()
    assert driver.rows("all") == [row(0, 1_000, 1, 1, "bob")]
    assert [(d.stage, d.code) for d in driver.dead_letters] == [("clicks/window", "expression")]


def test_hopping_windows_share_rows_and_sessions_grow():
    driver = TopologyDriver(clicks(sc.hopping("2s", every="1s")))
    driver.push("clicks", [click(1_500)])
    driver.end()
    assert [(r["window_start"], r["window_end"]) for r in driver.rows("all")] == [(0, 2_000), (1_000, 3_000)]
    driver = TopologyDriver(clicks(sc.session("1s"), lateness="10s"))
    driver.push("clicks", [click(0), click(2_000), click(1_000), click(3_001)])
    driver.end()
    assert driver.rows("all") == [row(0, 3_000, 3, 3), row(3_001, 4_001, 1, 1)]


MARKERS = st.sampled_from([TopologyDriver.CUT, TopologyDriver.CONFIRM, TopologyDriver.CRASH])
INPUT = st.lists(
    st.one_of(st.builds(click, st.integers(0, 9_000), st.sampled_from(["a", "b"])), MARKERS), max_size=25
)


@pytest.mark.parametrize("kind", [sc.tumbling("1s"), sc.hopping("3s", every="1s"), sc.session("1s")])
@settings(deadline=None, max_examples=60)
@given(rows=INPUT)
def test_crashes_cuts_and_confirmations_change_nothing_in_what_comes_out(kind, rows):
    def run(pushed: list[object]) -> tuple[Counter[str], Counter[str], Counter[str]]:
        driver = TopologyDriver(clicks(kind, lateness="2s"))
        driver.push("clicks", pushed)  # type: ignore[arg-type]
        driver.end()
        return tuple(Counter(map(repr, driver.rows(s))) for s in ("all", "many", "raw"))  # type: ignore[return-value]

    assert run(rows) == run([r for r in rows if not isinstance(r, Marker)])


@settings(deadline=None, max_examples=60)
@given(rows=INPUT)
def test_a_window_of_windows_is_that_of_their_rows(rows):
    """The windows of a second in one of three seconds, the last of them too, which ends where it ends."""
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at", max_lateness="20s")
    seconds = stream.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)")
    seconds.window(sc.tumbling("3s")).aggregate(n="sum(n)", windows="count(*)").to(Collect("all"))
    driver = TopologyDriver(topology)
    driver.push("clicks", rows)  # type: ignore[arg-type]
    driver.end()
    clicked = {(r["user"], r["at"] // 1_000): r["at"] // 3_000 for r in rows if not isinstance(r, Marker)}
    expected = {
        start * 3_000: (
            sum(r["at"] // 3_000 == start for r in rows if not isinstance(r, Marker)),
            sum(third == start for third in clicked.values()),
        )
        for start in set(clicked.values())
    }
    assert {r["window_start"]: (r["n"], r["windows"]) for r in driver.rows("all")} == expected


def test_windows_of_windows_close_while_the_stream_goes_on_and_none_of_them_is_late():
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at")
    seconds = stream.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)")
    seconds.window(sc.tumbling("2s")).aggregate(n="sum(n)").to(Collect("all"))
    driver = TopologyDriver(topology)
    driver.push("clicks", [click(0), click(500), click(1_999)])
    assert driver.rows("all") == []
    driver.push("clicks", [click(2_001)])
    assert driver.rows("all") == [{"window_start": 0, "window_end": 2_000, "n": 3}]
    driver.end()
    assert [r["n"] for r in driver.rows("all")] == [3, 1]
    assert sum(number for (_, counter), number in driver.counts.items() if counter == "late") == 0


def test_time_goes_on_by_rows_that_a_filter_keeps_from_the_window():
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at")
    stream.filter("\"user\" = 'ann'").window(sc.tumbling("1s")).aggregate(n="count(*)").to(Collect("all"))
    driver = TopologyDriver(topology)
    driver.push("clicks", [click(0), click(1_000, "bob")])
    assert [r["n"] for r in driver.rows("all")] == [1]


def test_late_rows_are_a_stream_that_can_be_kept():
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at", max_lateness="1s")
    stream.window(sc.tumbling("1s")).aggregate(n="count(*)").to(Collect("all"))
    stream.late().filter('"user" is not null').to(Collect("late"))
    driver = TopologyDriver(topology)
    cut = driver.CUT
    driver.push("clicks", [click(5_000), click(4_000), cut, click(3_999), click(0, None), cut, click(5_500)])
    driver.end()
    assert driver.rows("late") == [click(3_999)]
    assert sum(r["n"] for r in driver.rows("all")) == 3
    assert driver.counts["clicks/window", "late"] == 2


def test_a_row_from_the_future_closes_nothing_and_is_the_dead_letter_of_the_window():
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at", max_future="1h")
    stream.window(sc.tumbling("1s")).aggregate(n="count(*)").to(Collect("all"))
    stream.to(Collect("raw"))
    driver = TopologyDriver(topology, now=1_000)
    driver.push("clicks", [click(5_000), click((1_000 + 3_600) * 1_000 + 1), click(5_999)])
    assert driver.rows("all") == []
    driver.push("clicks", [click((1_000 + 3_600) * 1_000)])
    assert [r["n"] for r in driver.rows("all")] == [2]
    assert [(d.stage, d.code, d.offset) for d in driver.dead_letters] == [("clicks/window", "future", 1)]
    assert len(driver.rows("raw")) == 4


SECOND = sc.tumbling("1s")


def stream(**options: object) -> sc.Stream:
    return sc.Topology("t").stream("clicks", Click, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("declare", "message"), [
    (lambda: stream().window(SECOND).aggregate(n="count(*)"), "no event time"),
    (lambda: stream(event_time="at").window(SECOND).by("usr").aggregate(n="count(*)"), "usr"),
    (lambda: stream(event_time="at").drop("at").window(SECOND).aggregate(n="count(*)"), "at"),
    (lambda: stream(event_time="at").window(SECOND).by("user").aggregate(user="count(*)"), "same name"),
    (lambda: stream(event_time="at").window(SECOND).by("user", "user").aggregate(n="count(*)"), "same name"),
    (lambda: stream(event_time="at").window(SECOND).aggregate(), "one or more aggregates"),
    (lambda: stream(event_time="at").rename({"n": "_order"}).window(SECOND).aggregate(a="count(*)"), "name"),
    (lambda: stream().late(), "no row of this stream is late"),
    (lambda: sc.tumbling("0s"), "above zero"),
    (lambda: sc.hopping("1s", every="2s"), "rows would be lost"),
    (lambda: sc.session("0s"), "above zero"),
    (lambda: sc.tumbling("1 parsec"), "no duration"),
])  # fmt: skip
def test_what_can_not_be_a_window_is_said_when_it_is_declared(declare, message):
    with pytest.raises(BadConfig, match=message):
        declare()


def test_late_rows_of_a_stream_without_windows_are_refused_when_it_is_loaded():
    topology = sc.Topology("t")
    topology.stream("clicks", Click, event_time="at").late().to(Collect("late"))
    with pytest.raises(BadConfig, match="no window gets rows"):
        topology.freeze()


def test_the_graph_shows_windows():
    text = clicks(sc.session("30m")).text()
    assert "sessions 30m apart by user" in text
