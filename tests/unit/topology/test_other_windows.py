"""Sliding, counted and global windows as topologies have them: what comes out when, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import hide
from streamcore.errors import BadConfig
from streamcore.event_time import END
from streamcore.passage import operator_of
from streamcore.testing import TopologyDriver
from streamcore.windowed import AnyKind
from tests.unit.topology.collecting import Collect

COLUMNS = {"user": "string", "at": "int64", "v": "int64"}


def stream(event_time: str | None = "at", max_lateness: str = "4ms") -> sc.Stream:
    return sc.Topology("t").stream("clicks", COLUMNS, event_time=event_time, max_lateness=max_lateness)


def driver_of(kind: AnyKind, **aggregates: str) -> TopologyDriver:
    clicks = stream()
    clicks.window(kind).by("user").aggregate(name="w", **aggregates).to(Collect("out"))
    return TopologyDriver(clicks._topology)


@pytest.mark.parametrize("together", [1, 2, 7, 300])
def test_sliding_windows_let_go_of_no_row_too_early(together: int):
    """Rows of two users, one of them null, a little out of order, in batches of any size.

    The model looks at all of them.
    """
    times = [i // 3 + (-3 if i % 5 == 4 else 0) for i in range(300)]
    rows = [{"user": ("a", None)[i % 2], "at": at, "v": i} for i, at in enumerate(times)]
    driver = driver_of(sc.sliding("20ms"), total="sum(v)", n="count(*)")
    for start in range(0, len(rows), together):
        driver.push("clicks", rows[start : start + together])
    before = len(driver.rows("out"))
    assert 270 < before < 300
    driver.end()
    expected = []
    for row in sorted(rows, key=lambda row: row["at"]):
        near = [
            other["v"]
            for other in rows
            if other["user"] == row["user"] and row["at"] - 20 < other["at"] <= row["at"]
        ]
        expected.append({**row, "total": sum(near), "n": len(near)})
    assert driver.rows("out") == expected


def test_a_window_of_rows_is_there_as_soon_as_it_is_complete():
    driver = driver_of(sc.counted(2), total="sum(v)")
    driver.push("clicks", [{"user": user, "at": 0, "v": v} for user, v in (("a", 1), ("b", 2), ("a", 3))])
    assert driver.rows("out") == [{"user": "a", "window_number": 0, "total": 4}]
    driver.push("clicks", [{"user": "a", "at": -99, "v": 5}])  # it would be late
    driver.end()
    assert driver.rows("out")[1:] == [
        {"user": "a", "window_number": 1, "total": 5},
        {"user": "b", "window_number": 0, "total": 2},
    ]


def test_a_global_window_closes_with_the_stream():
    driver = driver_of(sc.global_window(), total="sum(v)")
    driver.push("clicks", [{"user": "a", "at": at, "v": 1} for at in (0, 10**12, 5)])
    assert driver.rows("out") == []
    driver.end()
    assert driver.rows("out") == [{"user": "a", "window_start": 0, "window_end": 10**12, "total": 2}]


def test_windows_of_time_may_follow_sliding_ones():
    clicks = stream()
    sliding = clicks.window(sc.sliding("10ms")).by("user").aggregate(n="count(*)")
    sliding.window(sc.tumbling("100ms")).aggregate(most="max(n)").to(Collect("out"))
    driver = TopologyDriver(clicks._topology)
    driver.push("clicks", [{"user": "a", "at": at, "v": 0} for at in (1, 2, 3, 50, 99, 200)])
    driver.end()
    assert [row["most"] for row in driver.rows("out")] == [3, 1]


@pytest.mark.parametrize(("declare", "message"), [
    (lambda: stream(None).window(sc.sliding("1s")).aggregate(n="count(*)"), "no event time"),
    (lambda: stream().window(sc.sliding("1s")).by("user").aggregate(v="count(*)"), "same name"),
    (lambda: stream().window(sc.sliding("1s")).by("usr").aggregate(n="count(*)"), "usr"),
    (lambda: stream().window(sc.sliding("0s")), "above zero"),
    (lambda: stream().window(sc.sliding("1s")).table(n="count(*)"), "no table"),
    (lambda: stream().window(sc.counted(0)), "above zero"),
    (lambda: stream().window(sc.counted(2)).table(n="count(*)"), "no table"),
    (lambda: stream().window(sc.counted(2)).by("user").aggregate(window_number="count(*)"), "same name"),
    (lambda: stream().window(sc.counted(2)).aggregate(n="count(*)").window(sc.tumbling("1s"))
     .aggregate(n="count(*)"), "no event time"),
    (lambda: stream().window(sc.sliding("1s"), late_updates="1s").aggregate(n="count(*)"), "no key to find"),
    (lambda: stream().window(sc.counted(2), late_updates="1s").aggregate(n="count(*)"), "no row is late"),
    (lambda: stream().window(sc.sliding("1s"), late_updates="1s").table(n="count(*)"), "no table"),
])  # fmt: skip
def test_what_they_can_not_do_is_said_when_it_is_declared(declare, message):
    with pytest.raises(BadConfig, match=message):
        declare()


@pytest.mark.parametrize(
    "kind",
    [sc.counted(2), sc.sliding("5ms"), sc.tumbling("5ms"), sc.session("5ms"), sc.global_window()],
    ids=lambda kind: type(kind).__name__,
)
def test_what_comes_behind_the_end_takes_back_no_number(kind: AnyKind):
    """A repeat: an append of a zombie that arrived when all had ended (simulated seed 13534)."""
    clicks = stream()
    clicks.window(kind).by("user").aggregate(name="w", total="sum(v)").to(Collect("out"))
    graph = clicks._topology.freeze()
    operator = operator_of(graph, "w")
    rows = pl.DataFrame({"user": ["a", "b", "a"], "at": [1, 2, 3], "v": [1, 2, 3]})
    delta = operator.prepare(hide(rows, np.arange(3, dtype=np.int64)), "w").rows
    delta = pl.concat([operator.no_rows, delta], how="diagonal").with_columns(
        pl.col("^_upstream$").fill_null(0)
    )
    ended = operator.apply(operator.empty, [delta], END)
    again = operator.apply(ended.state, [], END)
    assert ended.state.emitted >= 1
    assert (again.emission.height, again.state.emitted) == (0, ended.state.emitted)
