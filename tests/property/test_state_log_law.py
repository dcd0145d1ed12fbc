"""The law of a window's log: whoever wrote it, however often and cut however, its windows are the same.

Partitions are read by tasks that die and begin anew where the log says, beside zombies that go on; the log
is read by window tasks that begin at its start. The oracle folds the rows of all partitions at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import PartitionId, RecordChunk, nothing_at
from streamcore.contracts import FlushReason
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.passage import Outcome
from streamcore.runtime.state_logs import StateLog, StateLogWriter, made_logs
from streamcore.state.log_record import decode
from streamcore.state.snapshot import SnapshotReader, is_snapshot
from streamcore.stateful_task import StatefulTask, StatefulTasks
from streamcore.task import PartitionTask
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.windows.assigners import WindowKind
from tests.unit.topology.collecting import Collect

KINDS = {
    "tumbling": sc.tumbling("10ms"),
    "hopping": sc.hopping("10ms", every="4ms"),
    "session": sc.session("5ms"),
}
SOURCES = [PartitionId("clicks", number, "id") for number in (0, 1)]
names = (f"law-{number}" for number in itertools.count())


class Click(sc.Event):
    user: str | None
    at: int


def graph_of(kind: WindowKind) -> Graph:
    topology = sc.Topology("t")
    clicks = topology.stream("clicks", Click, event_time="at", max_lateness="8ms")
    clicks.window(kind).by("user").aggregate(n="count(*)", first="min(at)").to(Collect("out"))
    return topology.freeze()


Row = tuple[str | None, int]
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "ä|b", None]), st.integers(0, 60)), max_size=14)


@dataclass(frozen=True)
class Write:
    """A writer takes the next *rows* rows of a partition; *anew*: another one takes the partition over."""

    partition: int
    rows: int
    zombie: bool
    anew: bool


WRITES = st.lists(
    st.builds(Write, st.integers(0, 1), st.integers(0, 5), st.booleans(), st.booleans()), max_size=14
)


def chunk_of(source: PartitionId, rows: Sequence[Row], start: int, end: int) -> RecordChunk:
    values: list[bytes | None] = [orjson.dumps({"user": user, "at": at}) for user, at in rows[start:end]]
    end = start + len(values)
    return RecordChunk(source, np.arange(start, end), values, first=start, end=end)


class Reader:
    """One owner of a partition: what it reads goes to the window's log."""

    clock = staticmethod(lambda: 0.0)

    def __init__(self, graph: Graph, log: EmbeddedLog, target: StateLog, source: PartitionId) -> None:
        self.graph, self.source, self.target = graph, source, target
        self.writer = StateLogWriter(target, log, lambda: 0.0, lambda point: None)
        self.position = 0

    async def begin(self) -> Reader:
        self.position = (await self.writer.open({self.source: 0}))[self.source]
        logged = {self.target.node: self.writer.logged[self.source]}
        self.task = PartitionTask(self.graph, "clicks", self.source, logged=logged, clock=self.clock)
        return self

    async def read(self, rows: Sequence[Row], count: int) -> None:
        chunk = chunk_of(self.source, rows, self.position, self.position + count)
        self.position = chunk.end
        await self._write(self.task.on_chunk(chunk))

    async def end(self) -> None:
        await self._write(self.task.on_watermark(nothing_at(self.source, self.position), END))

    async def _write(self, outcome: Outcome) -> None:
        if self.target.node in outcome.writes:
            await self.writer.write(outcome.writes[self.target.node])
            await self.writer.flush(FlushReason.END)


async def written(
    broker: Broker,
    graph: Graph,
    partitions: Sequence[Sequence[Row]],
    writes: Sequence[Write],
    width: int,
    reader: type[Reader] = Reader,
) -> tuple[EmbeddedLog, StateLog]:
    """A log that *writes* have made of the rows of *partitions*; at last each is read to its end."""
    log = EmbeddedLog(broker)
    ((_, target),) = (await made_logs(graph, log, {"clicks": "clicks"}, {"clicks": max(width, 2)})).items()
    target = replace(target, upstream=(("clicks", 0), ("clicks", 1)))
    owners = [await reader(graph, log, target, source).begin() for source in SOURCES]
    zombies = list(owners)
    for write in writes:
        if write.anew:
            zombies[write.partition] = owners[write.partition]
            owners[write.partition] = await reader(graph, log, target, SOURCES[write.partition]).begin()
        reading = (zombies if write.zombie else owners)[write.partition]
        await reading.read(partitions[write.partition], write.rows)
    for number, owner in enumerate(owners):
        await owner.read(partitions[number], len(partitions[number]))
        await owner.end()
    return log, target


def emissions(outcome: Outcome | None) -> list[tuple[object, ...]]:
    if outcome is None or "out" not in outcome.writes:
        return []
    return outcome.writes["out"].frame.drop("_sub", "_op").rows()


def anew(task: StatefulTask, graph: Graph, target: StateLog, as_of: int) -> StatefulTask:
    """What another process makes of a snapshot of *task*, in records that came among those of a torn one."""
    records = list(task.snapshot(as_of).records("whole", 200))
    torn = list(task.snapshot(as_of).records("torn", 100))[:-1]
    again = StatefulTask(graph, target.node, task.source, target.upstream, definition=target.definition)
    reader, found = SnapshotReader(as_of, again.places), []
    for value in [*torn, *records, *task.snapshot(as_of - 1).records("older", 100)]:
        assert is_snapshot(value)
        found.append(reader.add(value))
    (snapshot,) = (one for one in found if one is not None)
    again.restore(snapshot)
    return again


async def read_back(
    graph: Graph, log: EmbeddedLog, target: StateLog, cuts: Sequence[int], snapshots: bool = False
) -> list[list[tuple[object, ...]]]:
    """What comes out of each partition of the log, read in pieces of as many records as *cuts* say.

    With *snapshots* another process goes on behind each piece.
    """
    found = []
    for number, bounds in sorted((await log.bounds(target.topic)).items()):
        entries = [decode(v) async for c in log.scan(target.topic, number, *bounds) for v in c.values()]
        out = PartitionId("t/clicks/window", number, "w")
        task = StatefulTask(graph, target.node, out, target.upstream, definition=target.definition)
        rows: list[tuple[object, ...]] = []
        sizes = itertools.chain(cuts, itertools.repeat(3))
        while entries:
            size = next(sizes)
            rows += emissions(task.on_entries(entries[:size]) if size else None)
            entries = entries[size:]
            if snapshots:
                task = anew(task, graph, target, 7)
        assert task.ended
        found.append(rows)
    return found


def oracle(graph: Graph, partitions: Sequence[Sequence[Row]]) -> list[tuple[object, ...]]:
    """The windows of all rows, each partition in one chunk, without a log."""
    windows = StatefulTasks(graph, [("clicks", 0), ("clicks", 1)])
    rows: list[tuple[object, ...]] = []
    for source, given_rows in zip(SOURCES, partitions, strict=True):
        task = PartitionTask(graph, "clicks", source)
        last = nothing_at(source, len(given_rows))
        whole = task.on_chunk(chunk_of(source, given_rows, 0, len(given_rows)))
        for outcome in [*windows.through(whole), *windows.through(task.on_watermark(last, END))]:
            if "out" in outcome.writes:
                rows += outcome.writes["out"].rows.rows()
    return rows


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=60)
@given(
    partitions=st.tuples(ROWS, ROWS),
    writes=WRITES,
    width=st.integers(2, 4),
    cuts=st.lists(st.integers(0, 6), max_size=8),
    snapshots=st.booleans(),
)
def test_restarts_zombies_cuts_and_snapshots_change_neither_windows_nor_their_numbers(
    name, partitions, writes, width, cuts, snapshots
):
    graph = graph_of(KINDS[name])

    async def once(writes: Sequence[Write], cuts: Sequence[int]) -> list[list[tuple[object, ...]]]:
        broker = Broker.open(f"embedded://{next(names)}")
        try:
            log, target = await written(broker, graph, partitions, writes, width)
            return await read_back(graph, log, target, cuts, snapshots=snapshots and bool(cuts))
        finally:
            broker.close()

    found, plain = asyncio.run(once(writes, cuts)), asyncio.run(once([], []))
    assert found == plain
    windows = sorted(map(repr, (row[:-1] for rows in found for row in rows)))
    assert windows == sorted(map(repr, oracle(graph, partitions)))
