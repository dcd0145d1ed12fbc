"""The work of a topology for one partition: the one core that every driver drives.

A :class:`PartitionTask` is synchronous and pure: chunks go in, an :class:`Outcome` comes out. The
Faust agents of a worker and the test kit's TopologyDriver drive this same object, so there is one
engine. It knows no clock (a timer for the metrics is passed in), no Kafka, no asyncio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from streamcore.batch import (
    HIDDEN,
    HIDDEN_TYPES,
    OFFSET,
    SUB,
    Batch,
    Chunk,
    FrameChunk,
    PartitionId,
    Range,
    Rejects,
)
from streamcore.contracts import Decoder, Sink
from streamcore.formats import decoder_for
from streamcore.graph import Agent, Graph, Node, Source, Window
from streamcore.transforms.bisect import apply_or_reject
from streamcore.transforms.functions import renumbered
from streamcore.windows.operator import Delta, WindowOperator, WindowState
from streamcore.windows.time import BEGINNING

DECODE = "decode"
LATE = "late"
"""Counter of the rows that came too late for their window."""
SOURCE_STAGES = frozenset({"read", DECODE, "schema"})
"""Stages that refuse a row before it enters the graph."""


class RowId(NamedTuple):
    """A row within one source partition, at the stage that refused it."""

    stage: str
    offset: int
    sub: int


@dataclass(slots=True)
class Outcome:
    """What one chunk led to.

    ``writes``: for each sink (or agent) that the source can reach a batch, often with fewer rows than
    the chunk and sometimes none, that covers the whole chunk. ``deltas``: for each window that the
    source can reach what the chunk adds to it. ``rejects``: rows that became dead
    letters now. ``counts``: (node, counter) -> number. ``seconds``: stage -> time spent. ``decoded``: the
    rows before any step; None for redriven ones.
    """

    chunk: Chunk
    records: int
    writes: dict[str, Batch] = field(default_factory=dict)
    rejects: Rejects = field(default_factory=Rejects)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: pl.DataFrame | None = None
    deltas: dict[str, Delta] = field(default_factory=dict)


class _Run:
    """One passage of frames through a part of the graph."""

    def __init__(self, graph: Graph, known: Mapping[str, pl.DataFrame], timer: Callable[[], float]) -> None:
        self.graph, self.known, self.timer = graph, known, timer
        self.frames: dict[str, pl.DataFrame] = {}
        self.rejects: list[Rejects] = []
        self.counts: dict[tuple[str, str], int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = self.timer()
        yield
        self.seconds[stage] += self.timer() - start

    def decode(self, decoder: Decoder, chunk: Chunk) -> pl.DataFrame:
        with self.timed(DECODE):
            decoded = decoder.decode(chunk)
        self.rejects.append(self.new(decoded.rejects))
        frame = decoded.frame
        for stage in SOURCE_STAGES & self.known.keys():
            # By row: the other rows of the same record were good.
            frame = frame.join(self.known[stage], on=[OFFSET, SUB], how="anti", maintain_order="left")
        return frame

    def through(self, nodes: Iterable[str]) -> None:
        """Bring the frames at hand through *nodes*, which are in the graph's order."""
        for id in nodes:
            node = self.graph.nodes[id]
            inputs = [self.frames[i] for i in node.inputs if i in self.frames]
            if not inputs or id in self.frames:
                continue
            self.frames[id] = self.apply(node, inputs[0] if len(inputs) == 1 else _union(inputs))

    def apply(self, node: Node, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that *node* lets pass of *frame*, less those that are its dead letters already."""
        if node.id in self.known:
            frame = frame.join(self.known[node.id], on=[OFFSET, SUB], how="anti", maintain_order="left")
        if node.step is None:
            return frame
        with self.timed(node.id):
            result = node.step.apply(frame, node.id)
        if len(result.rejects):
            self.rejects.append(self.new(result.rejects))
        for counter, number in result.counts.items():
            self.counts[node.id, counter] += number
        return result.frame

    def new(self, rejects: Rejects) -> Rejects:
        """*rejects* without those that are dead letters already."""
        if not len(rejects) or not self.known:
            return rejects
        known = [f.with_columns(pl.lit(stage).alias("stage")) for stage, f in self.known.items()]
        return Rejects(rejects.frame.join(pl.concat(known), on=["stage", OFFSET, SUB], how="anti"))

    def outcome(self, chunk: Chunk, records: int, sinks: Iterable[str]) -> Outcome:
        covered: dict[PartitionId, Range] = {chunk.source: chunk.covered}
        writes = {s: Batch(self.frames[s], covered, chunk) for s in sinks}
        return Outcome(
            chunk, records, writes, Rejects.join(self.rejects), dict(self.counts), dict(self.seconds)
        )


class PartitionTask:
    """A topology's work for one partition of one of its streams.

    *known* are rows at or above the resume position that are dead letters already: they are refused
    again, silently, so that a row's effect and its dead letter exclude each other.
    """

    def __init__(
        self,
        graph: Graph,
        stream: str,
        source: PartitionId,
        *,
        known: Collection[RowId] = (),
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        node = graph.sources[stream]
        assert isinstance(node.part, Source)
        self.graph, self.node, self.source = graph, node, source
        self._decoder = decoder_for(node.part.format, node.part.schema)
        self._known = _by_stage(known)
        self._last_known = max((k.offset for k in known), default=-1)
        self._timer = timer
        self._nodes = graph.stage(node.id)
        self.sinks = _sinks(graph, self._nodes)
        self.windows = tuple(n for n in self._nodes if n in graph.windows)
        self._watermarks = dict.fromkeys(self.windows, BEGINNING)

    def on_chunk(self, chunk: Chunk) -> Outcome:
        """Decode *chunk* and bring its rows through the graph.

        Chunks of a partition come in order, each starting where the last one ended. Raises Permanent
        only where a step asks for a stop (``on_fail="stop"``) or a user's function broke its promise.
        """
        if self._known and chunk.first > self._last_known:
            self._known = {}
        run = _Run(self.graph, self._known, self._timer)
        run.frames[self.node.id] = run.decode(self._decoder, chunk)
        run.through(self._nodes)
        deltas = {window: self._delta(run, window) for window in self.windows}
        outcome = run.outcome(chunk, len(chunk) + len(chunk.rejects), self.sinks)
        outcome.decoded, outcome.deltas = run.frames[self.node.id], deltas
        return outcome

    def _delta(self, run: _Run, window: str) -> Delta:
        operator = _operator(self.graph, window)
        with run.timed(window):
            delta = operator.prepare(run.frames[window], self._watermarks[window], window)
        self._watermarks[window] = delta.watermark
        run.rejects.append(run.new(delta.rejects))
        run.counts[window, LATE] += delta.late.height
        return delta


class WindowTask:
    """One window of a topology over all the partitions that feed it: deltas in, closed windows out.

    Its watermark is the least of its *upstream* partitions'. A row is judged late in its own partition,
    so a window that closes has all rows that were not late, in whatever order the partitions were read:
    what comes out, and its numbering, depends on the partitions' contents alone. *source* names the
    stream of what comes out.
    """

    def __init__(
        self,
        graph: Graph,
        window: str,
        source: PartitionId,
        upstream: Collection[PartitionId],
        *,
        known: Collection[RowId] = (),
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.graph, self.window, self.source = graph, window, source
        self._operator = _operator(graph, window)
        self._state = WindowState()
        self.upstream = tuple(upstream)
        self._watermarks = dict.fromkeys(self.upstream, BEGINNING)
        self._nodes = graph.stage(window)
        self.sinks = _sinks(graph, self._nodes)
        self._known, self._timer = _by_stage(known), timer

    def on_delta(self, upstream: PartitionId, delta: Delta) -> Outcome | None:
        """Add *delta* of one partition; None when it closes no window."""
        self._watermarks[upstream] = max(self._watermarks[upstream], delta.watermark)
        lowest = min(self._watermarks.values())
        self._state, closed = self._operator.apply(self._state, delta._replace(watermark=lowest))
        if not closed.height:
            return None
        end = self._state.emitted
        offsets = np.arange(end - closed.height, end)
        chunk = FrameChunk(self.source, offsets, closed.drop(HIDDEN), first=end - closed.height, end=end)
        run = _Run(self.graph, self._known, self._timer)
        with run.timed(self.window):
            emission, rejects = apply_or_reject(
                closed, self._operator.finish, self.window, "expression", _unfinished, (PolarsError,)
            )
        run.rejects.append(run.new(rejects))
        run.frames[self.window] = emission
        run.through(self._nodes)
        return run.outcome(chunk, closed.height, self.sinks)

    def on_end(self, upstream: PartitionId) -> Outcome | None:
        """*upstream*, which is bounded, has ended."""
        return self.on_delta(upstream, self._operator.end(self._state))


def _unfinished(error: Exception) -> str:
    return f"an aggregate of this window can't be computed: {type(error).__name__}"


def _operator(graph: Graph, window: str) -> WindowOperator:
    part = graph.nodes[window].part
    assert isinstance(part, Window)
    return part.operator


def _sinks(graph: Graph, nodes: Iterable[str]) -> tuple[str, ...]:
    return tuple(n for n in nodes if isinstance(graph.nodes[n].part, Sink | Agent))


@dataclass(frozen=True, slots=True)
class Redriven:
    """One record of the redrive stream: which stream and stage it enters again, as which row."""

    stream: str
    stage: str
    sub: int


class RedriveTask:
    """A topology's work for one partition of its redrive stream.

    A row enters again at the stage that refused it: the steps before that stage run again to give
    its columns, but only what lies behind the stage sees it, and so only the sinks that have not had
    it. *unpack* turns the chunk into (chunk of one record's original, what it is) pairs, or None for
    a record that is no redriven row.
    """

    def __init__(
        self,
        graph: Graph,
        source: PartitionId,
        *,
        unpack: Callable[[Chunk], Sequence[tuple[Chunk, Redriven]]],
        known: Collection[RowId] = (),
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.graph, self.source, self._unpack, self._timer = graph, source, unpack, timer
        self._known = _by_stage(known)
        self._decoders = {
            name: decoder_for(node.part.format, node.part.schema)
            for name, node in graph.sources.items()
            if isinstance(node.part, Source)
        }
        self.sinks = tuple(graph.sinks)

    def on_chunk(self, chunk: Chunk) -> Outcome:
        """Like :meth:`PartitionTask.on_chunk`. Rows of stages that no longer exist are rejects."""
        parts: dict[str, list[pl.DataFrame]] = {sink: [] for sink in self.sinks}
        total = Outcome(chunk, len(chunk))
        rejects: list[Rejects] = []
        for record, redriven in self._unpack(chunk):
            run = _Run(self.graph, self._known, self._timer)
            if redriven.stream not in self._decoders or not self._enter(run, record, redriven):
                lost = pl.DataFrame(
                    {OFFSET: record.offsets(), SUB: pl.Series([redriven.sub], dtype=pl.UInt32)}
                )
                message = f"stage {redriven.stage!r} of stream {redriven.stream!r} "
                message += "no longer exists, or a window follows it"
                rejects.append(Rejects.of(lost, redriven.stage, "redrive", message))
                continue
            rejects += run.rejects
            for sink, frames in parts.items():
                if sink in run.frames:
                    frames.append(run.frames[sink])
            for key, number in run.counts.items():
                total.counts[key] = total.counts.get(key, 0) + number
        covered = {chunk.source: chunk.covered}
        for sink, frames in parts.items():
            empty = pl.DataFrame(schema=self.graph.nodes[sink].columns)
            joined = pl.concat(frames) if frames else _hidden(empty)
            total.writes[sink] = Batch(joined, covered, chunk)
        total.rejects = Rejects.join(rejects)
        return total

    def _enter(self, run: _Run, record: Chunk, redriven: Redriven) -> bool:
        source = self.graph.sources[redriven.stream].id
        stage = source if redriven.stage in SOURCE_STAGES else redriven.stage
        if stage not in (source, *self.graph.stage(source)):
            return False
        behind = self.graph.stage(stage)
        if self.graph.windows.keys() & {stage, *behind}:
            return False  # the window that the row belongs to may be closed
        decoded = run.decode(self._decoders[redriven.stream], record)
        if stage == source:
            run.frames[source] = _own_rows(run, decoded, redriven)
        else:
            run.frames[source] = decoded
            before = [n for n in self.graph.stage(source) if n != stage and n not in behind]
            run.through(before)
            inputs = [run.frames[i] for i in self.graph.nodes[stage].inputs if i in run.frames]
            entering = _union(inputs) if len(inputs) > 1 else inputs[0]
            entering = entering.filter(pl.col(SUB) == redriven.sub)
            if entering.height:
                run.rejects.clear()  # what the record met on other ways was settled the first time
            run.frames = {stage: run.apply(self.graph.nodes[stage], entering)}
        run.through(behind)
        return True


def _own_rows(run: _Run, decoded: pl.DataFrame, redriven: Redriven) -> pl.DataFrame:
    """The rows of a record that a source stage had refused: its other rows have passed already.

    Where the record could not be read at all (place 0 of "read" or "decode") that is all of it, once it
    can be read.
    """
    again = Rejects.join(run.rejects).frame
    mine = again.filter(pl.col(SUB) == redriven.sub)
    if redriven.stage != "schema" and redriven.sub == 0 and not mine.height:
        return decoded
    run.rejects = [Rejects(mine)]
    return decoded.filter(pl.col(SUB) == redriven.sub)


def _by_stage(known: Collection[RowId]) -> dict[str, pl.DataFrame]:
    rows: dict[str, list[RowId]] = defaultdict(list)
    for row in known:
        rows[row.stage].append(row)
    return {
        stage: pl.DataFrame(
            {OFFSET: [i.offset for i in ids], SUB: [i.sub for i in ids]},
            schema={OFFSET: pl.Int64, SUB: pl.UInt32},
        )
        for stage, ids in rows.items()
    }


def _union(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of *frames*, which have the same columns, in the order of their records.

    Where a record came by several ways with equal sub-indexes its rows are numbered anew; the
    numbers depend on that record alone, as the cut law asks.
    """
    first = frames[0]
    joined = pl.concat([first, *(f.select(first.columns) for f in frames[1:])])
    joined = joined.sort(OFFSET, SUB, maintain_order=True)
    twice = pl.struct(OFFSET, SUB).is_duplicated().any().over(OFFSET)
    if not joined.select(twice.any()).item():
        return joined
    marked = joined.with_columns(twice.alias("_twice"))
    fixed = pl.concat([marked.filter(~pl.col("_twice")), renumbered(marked.filter("_twice"))])
    return fixed.sort(OFFSET, SUB).drop("_twice")


def _hidden(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.Series(name, [], dtype) for name, dtype in HIDDEN_TYPES.items())
