"""The names under which sinks keep their place in the rows of windows."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.batch import PartitionId
from streamcore.runtime.finished import FinishedReplays
from streamcore.runtime.window_streams import window_streams
from tests.unit.topology.collecting import Collect

SOURCES = [PartitionId("clicks", number, "id") for number in (1, 0)]


class Click(sc.Event):
    user: str
    at: int


def topology(
    *, size: str = "1s", by: str = "user", text: str = "count(*)", step: str = "at > 0", sink: str = "s"
) -> sc.Topology:
    made = sc.Topology("t")
    clicks = made.stream("clicks", Click, event_time="at").add_column("x", step)
    clicks.window(sc.tumbling(size)).by(by).aggregate(n=text).to(Collect(sink))
    return made


def stream(made: sc.Topology, sources: list[PartitionId] = SOURCES) -> PartitionId:
    ((source, upstream),) = window_streams(made.freeze(), {"clicks": "clicks"}, sources).values()
    assert upstream == sorted(sources)
    return source


def test_the_same_declaration_is_the_same_stream_in_whatever_order_partitions_come():
    assert stream(topology()) == stream(topology(size="1000ms"), SOURCES[::-1])


@pytest.mark.parametrize("change", [{"size": "2s"}, {"by": "x"}, {"text": "max(at)"}, {"step": "at > 1"}])
def test_another_window_or_another_step_before_it_is_another_stream(change):
    assert stream(topology(**change)) != stream(topology())


def test_what_is_read_belongs_to_the_name():
    other = [PartitionId("clicks", 0, "again"), SOURCES[0]]
    assert len({stream(topology()), stream(topology(), other), stream(topology(), SOURCES[:1])}) == 3


def test_a_replay_is_finished_when_all_its_partitions_are_and_nothing_changed(tmp_path):
    finished = FinishedReplays(tmp_path, topology().freeze())
    assert finished.ends(SOURCES) == {}
    finished.note({SOURCES[0]: 5})
    assert finished.ends(SOURCES) == {}
    finished.note({SOURCES[1]: 7})
    assert FinishedReplays(tmp_path, topology().freeze()).ends(SOURCES) == {SOURCES[0]: 5, SOURCES[1]: 7}
    for changed in (topology(step="at > 1"), topology(sink="another")):
        assert FinishedReplays(tmp_path, changed.freeze()).ends(SOURCES) == {}
