"""Recovery says how far it is and when it will be done, and ends in words when it can't be."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import streamcore as sc
from streamcore.batch import PartitionId, RecordChunk
from streamcore.errors import Permanent
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.recovery import Recovery
from streamcore.runtime.state_logs import StateLog, definition_of
from streamcore.state.log_record import Entry, encode
from tests.unit.topology.collecting import Collect


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_and_the_time_left_are_told_every_few_seconds(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    recovery = Recovery("the state of table of log/0", 100, 1_100, clock)
    assert recovery.text == (
        "the state of table of log/0 is made again: 0 % of 1000 records, time left not known yet"
    )
    clock.now += 2
    recovery.moved(300, 10_000_000)
    assert caplog.messages == []
    clock.now += 4
    recovery.moved(600, 20_000_000)
    told = "the state of table of log/0 is made again: 50 % of 1000 records, about 6 s left"
    assert recovery.text == told
    assert caplog.messages == [f"{told}, 30 MB at 5 MB/s"]
    clock.now += 4
    recovery.moved(1_200, 30_000_000)
    assert recovery.text is None
    assert caplog.messages[1:] == ["the state of table of log/0 is made again: 10.0 s, 60 MB at 6 MB/s"]
    recovery.moved(1_300, 1)
    assert len(caplog.messages) == 2


def test_an_empty_log_is_done_at_once():
    assert Recovery("x", 5, 5, Clock()).text is None


def test_a_log_that_has_lost_its_beginning_ends_the_recovery_in_words():
    topology = sc.Topology("t")
    rows = topology.stream("rows", {"key": "int64"})
    rows.by("key").aggregate(name="table", n="count(*)").changelog().to(Collect("out"))
    graph = topology.freeze()
    definition, source = definition_of(graph, "table"), PartitionId("log", 0, "log")
    log = StateLog("table", "log", 1, ("key",), (("rows", 0),), definition)
    kept = KeptState(log, PartitionId("t/table", 0, "t"), 7, 0, 9)
    kept.begin(graph, (), {}, lambda: 0.0)
    entry = encode(Entry(("rows", 0), 5, 6, 0, False, definition, None))
    assert list(kept.on_chunk(RecordChunk(source, np.array([7]), [entry]))) == []
    assert kept.recovery is not None
    assert kept.recovery.records_left == 1
    with pytest.raises(Permanent, match="no whole snapshot"):
        list(kept.on_chunk(RecordChunk(source, np.array([8]), [entry])))
