"""Driving a topology without a broker: rows in, rows out, a manual clock, and faults on purpose.

The driver runs the same :class:`streamcore.task.PartitionTask` as the workers, so what passes here
passes there. Sinks are replaced by memory that behaves like a fenced sink: a crash takes back what
was not confirmed, and the input since then comes again.

::

    driver = TopologyDriver(topology)
    driver.push("users", [{"age": 17}, {"age": 30}])
    assert driver.rows("adults") == [{"age": 30}]

    driver.push("users", [{"age": 40}, driver.CONFIRM, {"age": 50}, driver.CRASH, {"age": 60}])

Windows close by the event times that are pushed, or all of them by :meth:`TopologyDriver.end`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import polars as pl

from streamcore.asking import Asked
from streamcore.batch import (
    DELETES,
    OFFSET,
    OP,
    SUB,
    Batch,
    Chunk,
    FrameChunk,
    PartitionId,
    RecordChunk,
    nothing_at,
)
from streamcore.errors import BadConfig
from streamcore.event_time import END, TimeOf
from streamcore.graph import Agent, Source
from streamcore.passage import Outcome
from streamcore.stateful_task import StatefulTasks
from streamcore.task import PartitionTask
from streamcore.topology import Topology

Row = Mapping[str, object]


@dataclass(frozen=True)
class Marker:
    """A point in the input at which the driver does something else than pushing a row."""

    name: str


@dataclass(frozen=True)
class Tombstone:
    """A record that has a key and no value: in a table's changelog it deletes the row of that key."""

    key: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that became a dead letter: where, why, and its original bytes (None: tombstone)."""

    stream: str
    partition: int
    offset: int
    sub: int
    stage: str
    code: str
    message: str
    original: bytes | None


@dataclass(frozen=True, slots=True)
class _Read:
    """A chunk, and the clock when it was read; *only_the_clock*: nothing came, but that."""

    chunk: Chunk
    now: float
    only_the_clock: bool = False


class TopologyDriver:
    """Pushes rows through *topology* in this process. The clock starts at *now* (seconds since 1970)."""

    CUT: Final = Marker("cut")
    """Ends the batch here; results must not depend on it."""
    CONFIRM: Final = Marker("confirm")
    """All sinks confirm what they have, and the position is committed."""
    CRASH: Final = Marker("crash")
    """The worker dies and starts again at the last confirmed position."""

    def __init__(
        self,
        topology: Topology,
        *,
        now: float = 0.0,
        partitions: int = 1,
        references: Mapping[str, pl.DataFrame] | None = None,
    ) -> None:
        """*partitions* of each stream feed its windows: one closes when all of them have passed it.

        *references*: what is looked up outside, by the references' names; may be changed between rows.
        """
        self.graph = topology.freeze()
        self.now = now
        self.references = dict(references or {})
        self._partitions = range(partitions)
        self._tasks: dict[PartitionId, PartitionTask] = {}
        self._windows = self._no_windows()
        self._ended = False
        self._have: dict[tuple[str, PartitionId], int] = {}
        """Up to where each sink has what comes from each partition; of that, what is confirmed:"""
        self._durable: dict[tuple[str, PartitionId], int] = {}
        self._ends: dict[PartitionId, int] = {}
        self._chunks: dict[PartitionId, list[_Read]] = {}
        """What was read of each partition."""
        self._reading = now
        self._confirmed: dict[str, list[pl.DataFrame]] = {sink: [] for sink in self.graph.sinks}
        self._held: dict[str, list[pl.DataFrame]] = {sink: [] for sink in self.graph.sinks}
        self._refused: dict[tuple[str, PartitionId, int, int], Refused] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def push(
        self,
        stream: str,
        rows: pl.DataFrame | Iterable[Row | bytes | Marker | Tombstone | None],
        *,
        partition: int = 0,
    ) -> None:
        """Push *rows* into a partition of *stream* as one batch, but for the markers among them.

        A mapping becomes a JSON document, bytes and None (a tombstone) go as they are, a :class:`Tombstone`
        has a key too, a frame goes in columns as a file's rows do.
        """
        source = PartitionId(stream, partition, "driver")
        if isinstance(rows, pl.DataFrame):
            self._chunk(_frame_chunk(source, self._ends.get(source, 0), rows))
            return
        batch: list[bytes | Tombstone | None] = []
        for row in rows:
            if isinstance(row, Marker):
                self._records(source, batch)
                batch = []
                self._act(row)
            else:
                batch.append(orjson.dumps(row) if isinstance(row, Mapping) else row)
        self._records(source, batch)

    def advance(self, seconds: float) -> None:
        """Move the clock; windows in processing time close by it."""
        self.now += seconds
        for stream, node in self.graph.sources.items():
            if node.source.time_of is TimeOf.PROCESSING:
                for number in self._partitions:
                    source = PartitionId(stream, number, "driver")
                    here = nothing_at(source, self._ends.get(source, 0))
                    self._process(_Read(here, self.now, only_the_clock=True))

    def frame(self, sink: str) -> pl.DataFrame:
        """What *sink* holds, confirmed or not, in the order of arrival, user columns only.

        Of a table its rows as they are now, in the order of their last updates.
        """
        node = self.graph.nodes[sink]
        frames = [*self._confirmed[sink], *self._held[sink]]
        if not frames:
            return pl.DataFrame(schema=node.columns)
        rows = pl.concat(frames)
        if node.source.updates:
            rows = rows.unique(list(node.source.key), keep="last", maintain_order=True)
            rows = rows.filter(~DELETES)
        return rows.drop(OP)

    def rows(self, sink: str) -> list[dict[str, object]]:
        """:meth:`frame` as a list of rows."""
        return self.frame(sink).to_dicts()

    @property
    def dead_letters(self) -> list[Refused]:
        """The refused rows, each once."""
        return list(self._refused.values())

    def confirm(self) -> None:
        """See :attr:`CONFIRM`."""
        for sink, frames in self._held.items():
            self._confirmed[sink] += frames
            frames.clear()
        self._durable = dict(self._have)
        if not self.graph.stateful:  # what feeds a window is read again from the start
            self._chunks.clear()

    def crash(self) -> None:
        """See :attr:`CRASH`."""
        again, ended = self._chunks, self._ended
        self._chunks, self._ended = {}, False
        self._tasks.clear()
        self._windows = self._no_windows()
        self._have = dict(self._durable)
        for frames in self._held.values():
            frames.clear()
        for reads in again.values():
            for read in reads:
                self._process(read)
        if ended:
            self.end()

    def end(self) -> None:
        """All streams end: every window closes."""
        self._ended = True
        for stream in self.graph.sources:
            for number in self._partitions:
                source = PartitionId(stream, number, "driver")
                here = nothing_at(source, self._ends.get(source, 0))
                self._take(self._task(source).on_watermark(here, END))

    def _act(self, marker: Marker) -> None:
        if marker == self.CONFIRM:
            self.confirm()
        elif marker == self.CRASH:
            self.crash()

    def _records(self, source: PartitionId, records: Sequence[bytes | Tombstone | None]) -> None:
        if records:
            keys = [record.key if isinstance(record, Tombstone) else None for record in records]
            values = [None if isinstance(record, Tombstone) else record for record in records]
            start = self._ends.get(source, 0)
            stamps = np.full(len(values), int(self.now * 1000), np.int64)
            offsets = np.arange(start, start + len(values))
            self._chunk(RecordChunk(source, offsets, values, keys=keys, timestamps=stamps))

    def _chunk(self, chunk: Chunk) -> None:
        self._ends[chunk.source] = chunk.end
        self._process(_Read(chunk, self.now))

    def _process(self, read: _Read) -> None:
        """Process *read*; after a crash with the clock that it was read with, as the logs would say."""
        chunk = read.chunk
        self._chunks.setdefault(chunk.source, []).append(read)
        self._reading, task = read.now, self._task(chunk.source)
        if read.only_the_clock:
            self._take(task.on_watermark(chunk, int(read.now * 1_000_000)))
        else:
            self._take(task.on_chunk(chunk, self._answer))

    def _task(self, source: PartitionId) -> PartitionTask:
        if source not in self._tasks:
            self._tasks[source] = PartitionTask(self.graph, source.topic, source, clock=lambda: self._reading)
        return self._tasks[source]

    def _no_windows(self) -> StatefulTasks:
        return StatefulTasks(
            self.graph,
            [(s, number) for s in self.graph.sources for number in self._partitions],
            self._answer,
        )

    def _answer(self, asked: Asked) -> pl.DataFrame:
        reference = asked.reference
        if reference.name not in self.references:
            raise BadConfig(
                f"the driver has no rows of reference {reference.name!r}",
                got=", ".join(self.references),
                fix=f"TopologyDriver(topology, references={{{reference.name!r}: frame}})",
            )
        types = (pl.col(name).cast(dtype) for name, dtype in reference.types.items())
        rows = self.references[reference.name].select(*types)
        return rows.join(asked.keys, on=list(reference.keys), how="semi")

    def _take(self, whole: Outcome) -> None:
        for outcome in self._windows.through(whole):
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        source = outcome.chunk.source
        for sink in self._held.keys() & outcome.writes.keys():
            batch = outcome.writes[sink]
            position = self._have.get((sink, source), 0)
            if batch.range.end > position:
                self._have[sink, source] = batch.range.end
                self._write(sink, batch.cut(position, batch.range.end))
        for key, number in outcome.counts.items():
            self.counts[key] = self.counts.get(key, 0) + number
        for row in outcome.rejects.frame.iter_rows(named=True):
            id = (row["stage"], source, row[OFFSET], row[SUB])
            self._refused[id] = Refused(
                source.topic,
                source.partition,
                row[OFFSET],
                row[SUB],
                row["stage"],
                row["code"],
                row["message"],
                outcome.chunk.original(row[OFFSET]).data,
            )

    def _write(self, sink: str, batch: Batch) -> None:
        if not len(batch):
            return
        part = self.graph.nodes[sink].part
        assert not isinstance(part, Source)
        columns = self.graph.nodes[sink].columns.names()
        rows = batch.frame.drop(OFFSET, SUB)
        self._held[sink].append(rows.select(*columns, OP) if not isinstance(part, Agent) else rows)


def _frame_chunk(source: PartitionId, start: int, frame: pl.DataFrame) -> FrameChunk:
    end = start + frame.height
    return FrameChunk(source, np.arange(start, end), frame, first=start, end=end)
