"""The logs of windows: how they are named and made, what their writers find in them, what tasks refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.batch import PartitionId, Range, TimedBatch, nothing_at
from streamcore.contracts import FlushReason, Records
from streamcore.errors import BadConfig, Permanent
from streamcore.event_time import BEGINNING
from streamcore.graph import Graph
from streamcore.passage import Logged
from streamcore.runtime import state_logs
from streamcore.runtime.state_logs import StateLog, StateLogWriter, emission_topic, log_topic, made_logs
from streamcore.state.log_record import Entry, decode, encode
from streamcore.stateful_task import StatefulTask
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.unit.topology.collecting import Collect

P0, P1 = PartitionId("clicks", 0, "id"), PartitionId("clicks", 1, "id")
STREAMS, READ = {"clicks": "clicks"}, {"clicks": 3}


class Click(sc.Event):
    user: str
    at: int


def graph_of(*names: str, by: tuple[str, ...] = ("user",)) -> Graph:
    """One window of *names* behind the other."""
    topology = sc.Topology("t")
    stream = topology.stream("clicks", Click, event_time="at")
    for number, name in enumerate(names or ("w",)):
        part = stream.window(sc.tumbling("10ms")).by(*(by if number == 0 else ()))
        stream = part.aggregate(name=name, **{f"n{number}": "count(*)"})
    stream.to(Collect("out"))
    return topology.freeze()


@pytest.fixture
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedLog]:
    broker = Broker.open(f"embedded://{request.node.name.replace('[', '-').replace(']', '')}")
    yield EmbeddedLog(broker)
    broker.close()


async def only(graph: Graph, log: EmbeddedLog) -> StateLog:
    (found,) = (await made_logs(graph, log, STREAMS, READ)).values()
    return found


# ------------------------------------------------------------ made_logs


async def test_a_log_is_as_wide_as_what_feeds_it_and_one_without_keys_has_one_partition(log):
    found = await made_logs(graph_of("first one", "second"), log, STREAMS, READ)
    assert {topic: (own.node, own.partitions) for topic, own in found.items()} == {
        "t.first-one.log": ("first one", 3),
        "t.second.log": ("second", 1),
    }
    assert found["t.first-one.log"].upstream == (("clicks", 0), ("clicks", 1), ("clicks", 2))
    assert found["t.second.log"].upstream == tuple((emission_topic("t", "first one"), n) for n in range(3))
    assert [len(await log.bounds(topic)) for topic in found] == [3, 1]


async def test_a_log_that_exists_keeps_its_partitions(log):
    await log.create("t.w.log", 5, {})
    assert (await only(graph_of(), log)).partitions == 5


async def test_two_windows_with_one_log_are_refused(log):
    with pytest.raises(BadConfig, match="two windows, tables or joins would have the same name") as told:
        await made_logs(graph_of("a/b", "a-b"), log, STREAMS, READ)
    assert told.value.got == "t.a-b.log"


async def test_each_replay_has_a_log_of_its_own_with_one_partition(log):
    graph = graph_of()
    found = [
        (await made_logs(graph, log, STREAMS, READ, replay=name)).popitem()[1] for name in ("a", "b", "a")
    ]
    assert found[0] == found[2]
    assert found[0].topic == log_topic(graph, "w", "a") != found[1].topic
    assert found[0].topic.startswith("t.w.log.replay-")
    assert [own.partitions for own in found] == [1, 1, 1]
    source = PartitionId(found[0].topic, 0, "made anew")
    assert found[0].emissions("t", source).topic_id == found[0].emission_id


# ------------------------------------------------------------ StateLogWriter


def writer_of(target: StateLog, log: EmbeddedLog) -> StateLogWriter:
    return StateLogWriter(target, log, lambda: 0.0, lambda point: None)


def batch_of(source: PartitionId, start: int, end: int, watermark: int) -> TimedBatch:
    rows = [("abcdefgh"[n % 8], n, n) for n in range(start, end)]
    schema = {"user": pl.String, "at": pl.Int64, "_offset": pl.Int64}
    frame = pl.DataFrame(rows, schema, orient="row")
    return TimedBatch(frame, {source: Range(start, end)}, nothing_at(source, end), watermark)


async def entries(log: EmbeddedLog, topic: str) -> dict[int, list[Entry]]:
    found = {}
    for number, bounds in (await log.bounds(topic)).items():
        found[number] = [
            decode(v) async for chunk in log.scan(topic, number, *bounds) for v in chunk.values()
        ]
    return found


async def put(log: EmbeddedLog, topic: str, partition: int, *found: Entry) -> None:
    values = pa.array([encode(entry) for entry in found], pa.binary())
    places = np.full(len(found), partition, np.int32)
    await (await log.append(topic, Records(values, np.zeros(len(found), np.int64), partitions=places)))


async def test_a_new_log_stands_where_reading_begins(log):
    writer = writer_of(await only(graph_of(), log), log)
    assert await writer.open({P0: 7, P1: 0}) == {P0: 7, P1: 0}
    assert writer.logged == {P0: Logged(7), P1: Logged(0)}


@pytest.mark.parametrize("look_back", [1, 2, 256])
async def test_a_writer_goes_on_at_the_least_of_the_logs_partitions(log, monkeypatch, look_back):
    """Also when the last records say nothing of a partition, so that it must look back farther."""
    monkeypatch.setattr(state_logs, "_LOOK_BACK", look_back)
    target = await only(graph_of(), log)
    said = Entry(("clicks", 0), 0, 5, 50, False, target.definition, None)
    for number in range(3):
        others = [Entry(("clicks", 1), n, n + 1, n, False, target.definition, None) for n in range(9)]
        await put(log, target.topic, number, said, *others)
    await put(log, target.topic, 0, said._replace(start=5, end=9, watermark=90))
    await put(log, target.topic, 2, said._replace(start=5, end=8, watermark=80))
    assert await writer_of(target, log).open({P0: 0, P1: 0}) == {P0: 5, P1: 9}
    await put(log, target.topic, 1, said._replace(start=5, end=9, watermark=90))
    again = writer_of(target, log)
    assert await again.open({P0: 0, P1: 0}) == {P0: 8, P1: 9}
    assert again.logged == {P0: Logged(8, 80), P1: Logged(9, 8)}


async def test_pieces_of_a_batch_count_with_the_last_of_them(log):
    """Before it no watermark is known, so whoever comes next writes the whole batch again."""
    target = await only(graph_of(), log)
    cut = Entry(("clicks", 0), 0, 3, BEGINNING, False, target.definition, None, more=True)
    for number in range(3):
        await put(log, target.topic, number, cut)
    assert await writer_of(target, log).open({P0: 0}) == {P0: 0}


async def test_before_gives_the_newest_that_does_not_reach_farther(log):
    target = await only(graph_of(), log)
    said = [Entry(("clicks", 0), n, n + 2, 10 * n, False, target.definition, None) for n in (0, 2, 4)]
    await put(log, target.topic, 0, *said)
    writer = writer_of(target, log)
    found = [await writer.before(P0, position) for position in (1, 2, 5, 6, 99)]
    # In the middle of the first record nothing is known but where it begins: rows are judged from there.
    assert found == [Logged(0), Logged(2, 0), Logged(4, 20), Logged(6, 40), Logged(6, 40)]
    assert await writer.before(P1, 3) == Logged(3)


async def test_a_large_batch_goes_in_pieces_that_cover_it_without_a_hole(log, monkeypatch):
    monkeypatch.setattr(state_logs, "RECORD_BYTES", 400)
    target = await only(graph_of(), log)
    writer = writer_of(target, log)
    await writer.open({P0: 0})
    await writer.write(batch_of(P0, 0, 100, watermark=42))
    assert (await writer.flush(FlushReason.END)) == {P0: 100}
    users, offsets = [], list[int]()
    for found in (await entries(log, target.topic)).values():
        assert len(found) > 3
        assert [e.start for e in found] == [0, *(e.end for e in found[:-1])]
        assert [e.watermark for e in found] == [BEGINNING] * (len(found) - 1) + [42]
        assert found[-1].end == 100
        rows = pl.concat(e.rows for e in found if e.rows is not None)
        users += rows["user"].unique().to_list()
        offsets += rows["_offset"].to_list()
    assert sorted(offsets) == list(range(100))
    assert sorted(users) == list("abcdefgh")  # each in one partition


async def test_a_log_that_is_gone_stops_the_worker(log):
    target = replace(await only(graph_of(), log), topic="gone")
    with pytest.raises(Permanent, match="topic gone does not exist"):
        await writer_of(target, log).start()


# ------------------------------------------------------------ StatefulTask


def task_of() -> StatefulTask:
    upstream = [("clicks", 0), ("clicks", 1)]
    return StatefulTask(graph_of(), "w", PartitionId("t/w", 0, "w"), upstream, definition="d")


def entry(start: int, end: int, *, partition: int = 0, definition: str = "d", watermark: int = 0) -> Entry:
    rows = batch_of(PartitionId("clicks", partition, "id"), start, end, watermark).frame
    return Entry(
        ("clicks", partition), start, end, watermark, False, definition, rows if end > start else None
    )


def test_a_hole_in_the_log_stops_the_worker():
    task = task_of()
    task.on_entries([entry(2, 4)])  # where the stream began
    with pytest.raises(Permanent, match="has a hole") as told:
        task.on_entries([entry(5, 6)])
    assert (told.value.where, told.value.got, told.value.allowed) == ("clicks/0", 5, (4,))


def test_a_partition_that_nobody_reads_stops_the_worker():
    with pytest.raises(Permanent, match="a partition that the topology does not read") as told:
        task_of().on_entries([entry(0, 1, partition=2)])
    assert told.value.allowed == ("clicks/0", "clicks/1")


def test_another_declaration_stops_the_worker():
    with pytest.raises(Permanent, match="another declaration") as told:
        task_of().on_entries([entry(0, 1, definition="old")])
    assert "another name=" in str(told.value.fix)


def test_what_is_written_again_changes_nothing():
    plain, again = task_of(), task_of()
    last = [entry(6, 6, watermark=10**9), entry(0, 0, partition=1, watermark=10**9)]
    expected = plain.on_entries([entry(0, 6), *last])
    twice = [entry(0, 4), entry(0, 4), entry(1, 3), entry(2, 6), entry(0, 6), entry(5, 6)]
    found = again.on_entries([*twice, *last])
    assert expected is not None
    assert found is not None
    assert found.writes["out"].frame.equals(expected.writes["out"].frame)
    assert found.writes["out"].frame["n0"].sum() == 6
