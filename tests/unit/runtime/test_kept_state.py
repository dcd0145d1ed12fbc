"""A stateful node in a process: what counts towards its next snapshot."""

from __future__ import annotations

import polars as pl

import streamcore as sc
from streamcore.batch import OFFSET, PartitionId, RecordChunk
from streamcore.event_time import BEGINNING
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_logs import StateLog, definition_of
from streamcore.state.log_record import Entry, encode
from tests.unit.topology.collecting import Collect

SOURCE = PartitionId("t.n.log", 0, "id")


def kept_state() -> KeptState:
    topology = sc.Topology("t")
    users = topology.stream("users", {"user": "string"})
    users.by("user").aggregate(n="count(*)", name="n").changelog().to(Collect("out"))
    graph = topology.freeze()
    log = StateLog("n", SOURCE.topic, 1, ("user",), (("users", 0),), definition_of(graph, "n"))
    kept = KeptState(log, log.emissions("t", SOURCE), 0, 0)
    kept.begin(graph, (), {}, lambda: 0.0)
    return kept


def chunk(start: int, *values: bytes) -> RecordChunk:
    return RecordChunk(SOURCE, range(start, start + len(values)), values)


def test_snapshots_do_not_count_towards_the_next_one() -> None:
    kept = kept_state()
    rows = pl.DataFrame({"user": ["ann"], OFFSET: [0]})
    entry = encode(Entry(("users", 0), 0, 1, BEGINNING, False, kept.log.definition, rows))
    assert len(list(kept.on_chunk(chunk(0, entry)))) == 1
    assert kept.since_snapshot == len(entry)
    kept.since_snapshot = 0
    list(kept.on_chunk(chunk(1, *kept.task.snapshot(1).records("whole", 100))))
    assert kept.since_snapshot == 0


def test_what_lies_behind_a_snapshot_counts_once() -> None:
    kept = kept_state()
    rows = pl.DataFrame({"user": ["ann"], OFFSET: [0]})
    first = encode(Entry(("users", 0), 0, 1, BEGINNING, False, kept.log.definition, rows))
    list(kept.on_chunk(chunk(0, first)))
    snapshot = list(kept.task.snapshot(1).records("whole", 100))
    second = encode(Entry(("users", 0), 1, 2, BEGINNING, False, kept.log.definition, rows))
    again = KeptState(kept.log, kept.emissions, 1, 0)
    again.begin(kept.task.stage.graph, (), {}, lambda: 0.0)
    list(again.on_chunk(chunk(1, second, *snapshot)))
    assert again.knows
    assert again.since_snapshot == len(second)
