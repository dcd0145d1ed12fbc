"""A state that goes on from what is here is the one that its log leads to; else it is not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from faust.types import TP

import streamcore as sc
from streamcore.batch import OFFSET, PartitionId, RecordChunk
from streamcore.event_time import BEGINNING
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.resuming import Resuming
from streamcore.runtime.state_copies import Copies
from streamcore.runtime.state_logs import StateLog, definition_of
from streamcore.state.log_record import Entry, encode
from streamcore.state.snapshot import Snapshot
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.unit.topology.collecting import Collect

SOURCE = PartitionId("t.n.log", 0, "id")
USERS = ["ann", "bob", "ann", "cid", "bob", "ann", "dan", "ann"]


def graph() -> Graph:
    topology = sc.Topology("t")
    users = topology.stream("users", {"user": "string"})
    users.by("user").aggregate(n="count(*)", name="n").changelog().to(Collect("out"))
    return topology.freeze()


GRAPH = graph()
LOG = StateLog("n", SOURCE.topic, 1, ("user",), (("users", 0),), definition_of(GRAPH, "n"))
OUT = LOG.emissions("t", SOURCE)


def entry(number: int) -> bytes:
    rows = pl.DataFrame({"user": [USERS[number]], OFFSET: [number]})
    return encode(Entry(("users", 0), number, number + 1, BEGINNING, False, LOG.definition, rows))


def chunk(start: int, end: int, source: PartitionId = SOURCE) -> RecordChunk:
    return RecordChunk(source, range(start, end), [entry(number) for number in range(start, end)])


def kept(first: int = 0, committed: int = 5, end: int = len(USERS)) -> KeptState:
    return KeptState(LOG, OUT, first, committed, end)


def begun(state: KeptState) -> KeptState:
    state.begin(GRAPH, (), {}, lambda: 0.0)
    return state


def came_out(state: KeptState, start: int) -> list[tuple[object, ...]]:
    """What the records from *start* on give, one by one: an update of each."""
    chunks = [chunk(number, number + 1) for number in range(start, len(USERS))]
    made = [outcome for one in chunks for outcome, _ in state.on_chunk(one) if "out" in outcome.writes]
    return [row for outcome in made for row in outcome.writes["out"].frame.drop("_sub", "_op").rows()]


def snapshot(as_of: int) -> Snapshot:
    state = begun(kept())
    list(state.on_chunk(chunk(0, as_of)))
    return state.task.snapshot(as_of)


@pytest.fixture
def resuming(tmp_path: Path) -> Iterator[Resuming]:
    broker = Broker.open(f"embedded://{tmp_path.name}")
    options = PipelineOptions("d", "r", copies=Copies(tmp_path / "copies"), state_logs={SOURCE.topic: LOG})
    yield Resuming(GRAPH, EmbeddedLog(broker), Metrics(), options)
    broker.close()


def copied(resuming: Resuming, taken: Snapshot, source: PartitionId = SOURCE) -> None:
    copies = resuming._options.copies
    assert copies is not None
    writer = copies.write(source, taken)
    assert writer is not None
    for value in taken.records("one", 1_000):
        writer.add(value)
    writer.finish()
    writer.publish()


async def resumed(resuming: Resuming, state: KeptState, *, sink_at: int = 1_000) -> int:
    """Where *state* goes on, when its only sink stands at *sink_at*."""
    runners = {"out": SimpleNamespace(stores_positions=True)}
    await resuming.resume({SOURCE: state}, {OUT: {"out": sink_at}}, runners)  # type: ignore[dict-item]
    return state.first


@pytest.mark.parametrize("way", ["copy", "standby", "left"])
@pytest.mark.parametrize("as_of", range(len(USERS)))
async def test_what_comes_out_behind_it_is_the_same_with_the_same_numbers(
    resuming: Resuming, way: str, as_of: int
) -> None:
    whole = came_out(begun(kept(committed=0)), 0)
    if way == "copy":
        copied(resuming, snapshot(as_of))
    else:
        state = begun(kept())
        list(state.on_chunk(chunk(0, as_of // 2))) if way == "left" else state.follow(chunk(0, as_of // 2))
        state.follow(chunk(as_of // 2, as_of))
        resuming.leave({SOURCE: state})
    heir = kept(committed=as_of)
    assert await resumed(resuming, heir) == as_of
    found = came_out(begun(heir), as_of)
    assert found
    assert found == whole[-len(found) :]
    assert heir.task.emitted == len(whole)
    assert heir.task.shown().sort("user").rows() == [("ann", 4), ("bob", 2), ("cid", 1), ("dan", 1)]


@pytest.mark.parametrize("way", ["copy", "left"])
@pytest.mark.parametrize(
    ("state", "sink_at", "why"),
    [
        (kept(committed=3), 1_000, "the group has not committed what came out"),
        (kept(committed=8, end=3), 1_000, "the log ends before it"),
        (kept(first=5, committed=8), 1_000, "the log no longer has what follows"),
        (kept(committed=8), 3, "a sink lacks something that came out"),
    ],
    ids=["ahead", "cut", "stale", "lacking"],
)
async def test_it_is_not_used(resuming: Resuming, way: str, state: KeptState, sink_at: int, why: str) -> None:
    first = state.first
    if way == "copy":
        copied(resuming, snapshot(4))
    else:
        before = begun(kept())
        before.follow(chunk(0, 4))
        resuming.leave({SOURCE: before})
    assert await resumed(resuming, state, sink_at=sink_at) == first, why


async def test_a_copy_that_its_log_no_longer_continues_is_removed(resuming: Resuming) -> None:
    copied(resuming, snapshot(4))
    assert await resumed(resuming, kept(first=5, committed=8)) == 5
    assert await resumed(resuming, kept(committed=8)) == 0


async def test_a_copy_that_is_torn_is_removed_and_the_log_read(resuming: Resuming, tmp_path: Path) -> None:
    copied(resuming, snapshot(4))
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    path.write_bytes(path.read_bytes()[:-3])
    assert await resumed(resuming, kept(committed=8)) == 0
    assert not path.exists()


async def test_a_copy_or_state_of_a_topic_that_is_gone_is_not_used(resuming: Resuming) -> None:
    other = PartitionId(SOURCE.topic, 0, "made again")
    copied(resuming, snapshot(4), other)
    state = begun(kept())
    state.follow(chunk(0, 4))
    resuming.leave({other: state})
    assert await resumed(resuming, kept(committed=8)) == 0


async def test_the_newer_of_a_copy_and_what_is_here_is_used(resuming: Resuming) -> None:
    copied(resuming, snapshot(2))
    state = begun(kept())
    state.follow(chunk(0, 4))
    resuming.leave({SOURCE: state})
    assert await resumed(resuming, kept(committed=8)) == 4


async def test_a_state_with_a_question_open_is_not_left_here(resuming: Resuming) -> None:
    state = begun(kept())
    asking = state.asking(chunk(0, 4))
    next(asking)  # what came of it has not been taken
    resuming.leave({SOURCE: state})
    assert await resumed(resuming, kept(committed=8)) == 0


async def test_states_that_nobody_wants_are_forgotten(resuming: Resuming) -> None:
    state = begun(kept())
    state.follow(chunk(0, 4))
    resuming.leave({SOURCE: state})
    resuming.wanted = lambda: {TP(SOURCE.topic, 0), TP("users", 0)}
    resuming.keep(1)
    assert list(resuming.standbys.here) == [TP(SOURCE.topic, 0)]
    resuming.wanted = frozenset
    resuming.keep(1)
    assert not resuming.standbys.here
