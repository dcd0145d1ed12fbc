"""The topologies of the simulation: branches, each of which says what must come out of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import streamcore as sc
from streamcore.contracts import Sink
from tests.simulation import shapes_joins, shapes_lives, shapes_tables, shapes_windows
from tests.simulation.branch import Branch, OtherEvent, RowEvent
from tests.simulation.feed import LATENESS, Feed
from tests.simulation.oracle import MOST

STATELESS: dict[str, Callable[[], Branch]] = {
    "passing": shapes_tables.passing,
    "whole": shapes_tables.whole,
}
STATEFUL: dict[str, Callable[[], Branch]] = {
    "tumbling": shapes_windows.tumbling,
    "hopping": shapes_windows.hopping,
    "session": shapes_windows.session,
    "outer": shapes_windows.windows_of_windows,
    "wtable": shapes_windows.window_table,
    "table": shapes_tables.table,
    "changelog": shapes_tables.changelog,
    "top": shapes_tables.top,
    "bands": shapes_tables.table_of_table,
    "first": shapes_tables.first,
    "join": lambda: shapes_joins.join("inner"),
    "outer-join": lambda: shapes_joins.join("left"),
}
MORE: dict[str, Callable[[], Branch]] = {
    "sliding": shapes_windows.sliding,
    "counted": shapes_windows.counted,
    "retractions": shapes_tables.retractions,
    "unique": shapes_tables.only_first,
    "living": shapes_lives.aggregated,
    "living-top": shapes_lives.top,
    "living-latest": shapes_lives.latest,
    "right-join": lambda: shapes_joins.join("right"),
    "full-join": lambda: shapes_joins.join("full"),
    "as-of": shapes_joins.as_of,
    "looked-up": shapes_joins.looked_up,
    "table-join": shapes_joins.tables,
    "foreign": shapes_joins.foreign,
    "stable": shapes_windows.session_table,
}
"""What came later. The seeds that catch planted mistakes do not draw from these: they would be others."""
BRANCHES = {**STATELESS, **STATEFUL, **MORE}


def chosen(dice: random.Random, *, whole: bool = False, more: bool = False) -> list[Branch]:
    """The branches of a seed's topology: one that keeps state, often others beside it, *whole* if asked.

    *more*: from :data:`MORE` too, as often as from all others.
    """
    stateful = [*STATEFUL, *MORE] + more * list(MORE) if more else list(STATEFUL)
    names = [dice.choice(stateful)] if dice.random() < 0.9 else []
    if not names or dice.random() < 0.5:
        names.append(dice.choice(["passing", "whole", "whole"]))
    if whole:
        names.append("whole")
    if dice.random() < 0.2:
        names.append(dice.choice(stateful))
    branches = [BRANCHES[name]() for name in dict.fromkeys(names)]
    if any(branch.timed for branch in branches) and dice.random() < 0.3:
        branches.append(shapes_tables.late())
    return branches


def built(
    branches: Sequence[Branch], sink: Callable[[Branch, int], Sequence[Sink]], *, idle_after: str
) -> sc.Topology:
    """The topology of *branches*; *sink* makes the sinks of each."""
    topology = sc.Topology("sim")
    time = {"max_lateness": f"{LATENESS}ms", "idle_after": idle_after}
    rows = topology.stream("rows", RowEvent, event_time="at", **time)  # type: ignore[arg-type]
    streams = {"rows": rows.validate(sc.rules.range("n", max=MOST), name="limit")}
    if any(branch.joins for branch in branches):
        streams["others"] = topology.stream("others", OtherEvent, event_time="oat", **time)  # type: ignore[arg-type]
    for number, branch in enumerate(branches):
        stream = branch.declare(streams)
        for one in sink(branch, number):
            stream.to(one)
    return topology


def shown(branches: Sequence[Branch], feed: Feed) -> str:
    """A few words on a run."""
    sizes = {stream: [len(p) for p in parts] for stream, parts in feed.partitions.items()}
    kinds = dict(Counter(sink.partition("-")[0] for branch in branches for sink in branch.sinks))
    return (
        f"{'+'.join(b.name for b in branches)} to {kinds}, rows {sizes}, {'ends' if feed.ended else 'live'}"
    )
