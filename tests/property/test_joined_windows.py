"""Windows behind a join: no pair comes too late for them, in whatever order the sides are read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.testing import TopologyDriver
from tests.unit.topology.collecting import Collect

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 2), st.integers(0, 60)), max_size=30
)
"""(right, partition, key, time in ms): each partition in order of time, but for the lateness."""
SPANS = {"both ways": ("-5ms", "8ms"), "before": ("-9ms", "-2ms"), "after": ("1ms", "9ms")}


def topology_of(within: tuple[str, str], how: str) -> sc.Topology:
    topology = sc.Topology("t")
    left = topology.stream("left", {"id": "int64", "at": "int64"}, event_time="at", max_lateness="3ms")
    right = topology.stream("right", {"of": "int64", "seen": "int64"}, event_time="seen", max_lateness="3ms")
    if how == "as of":
        pairs = left.join(right, on={"id": "of"}, as_of="9ms", how="left")
    else:
        pairs = left.join(right, on={"id": "of"}, within=within, how=how)  # type: ignore[arg-type]
    pairs.to(Collect("pairs"))
    pairs.window(sc.tumbling("10ms")).by("id").aggregate(n="count(*)").to(Collect("windows"))
    return topology


@pytest.mark.parametrize(
    ("how", "span"), [*((how, span) for how in ("inner", "left") for span in SPANS), ("as of", "before")]
)
@settings(deadline=None, max_examples=40)
@given(rows=ROWS, data=st.data())
def test_each_pair_is_in_its_window(how, span, rows, data):
    driver = TopologyDriver(topology_of(SPANS[span], how), partitions=2)
    sides: dict[tuple[bool, int], list[tuple[int, int]]] = {}
    for right, partition, key, at in rows:
        sides.setdefault((right, partition), []).append((key, at))
    waiting = {side: sorted(of, key=lambda row: row[1]) for side, of in sides.items()}
    while waiting:
        right, partition = data.draw(st.sampled_from(sorted(waiting)))
        mine = waiting[right, partition]
        count = data.draw(st.integers(1, len(mine)))
        some, waiting[right, partition] = mine[:count], mine[count:]
        if not waiting[right, partition]:
            del waiting[right, partition]
        names = ("of", "seen") if right else ("id", "at")
        batch = [dict(zip(names, row, strict=True)) for row in some]
        driver.push("right" if right else "left", batch, partition=partition)
    driver.end()
    pairs = Counter((row["id"], row["at"] // 10 * 10) for row in driver.rows("pairs"))  # type: ignore[operator]
    windows = {(row["id"], row["window_start"]): row["n"] for row in driver.rows("windows")}
    assert windows == pairs
    late = [number for (_, counter), number in driver.counts.items() if counter == "late"]
    assert sum(late) == 0
