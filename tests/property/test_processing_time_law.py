"""Windows by the clock: a row's time is fixed by the first record of the log that has it, for any reader."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.graph import Graph
from streamcore.transport.embedded_broker import Broker
from tests.property.test_state_log_law import ROWS, WRITES, Reader, read_back, written
from tests.unit.topology.collecting import Collect

names = (f"clock-{number}" for number in itertools.count())


class LateRiser(Reader):
    """A reader whose clock goes on by a second whenever it is asked."""

    clock = staticmethod(itertools.count(1_700_000_000).__next__)


def graph_of() -> Graph:
    topology = sc.Topology("t")
    clicks = topology.stream("clicks", {"user": "string", "at": "int64"}, event_time=sc.PROCESSING_TIME)
    clicks.window(sc.tumbling("3s")).by("user").aggregate(n="count(*)", ats="list(at)").to(Collect("out"))
    return topology.freeze()


@settings(deadline=None, max_examples=40)
@given(
    partitions=st.tuples(ROWS, ROWS),
    writes=WRITES,
    cuts=st.lists(st.integers(0, 6), max_size=8),
    again=st.lists(st.integers(0, 6), max_size=8),
)
def test_each_row_is_in_one_window_and_every_reader_sees_the_same(partitions, writes, cuts, again):
    """Owners and zombies read the same rows at other times; the log says which time holds."""
    graph = graph_of()

    async def read(cuts: Sequence[int], again: Sequence[int]) -> tuple[object, object]:
        broker = Broker.open(f"embedded://{next(names)}")
        try:
            log, target = await written(broker, graph, partitions, writes, 2, LateRiser)
            first = await read_back(graph, log, target, cuts)
            return first, await read_back(graph, log, target, again, snapshots=True)
        finally:
            broker.close()

    found, second = asyncio.run(read(cuts, again))
    assert found == second
    rows = [row for partition in found for row in partition]
    counted = Counter((row[0], at) for row in rows for at in row[4])
    assert counted == Counter(row for partition in partitions for row in partition)
    assert all(row[3] == len(row[4]) for row in rows)
