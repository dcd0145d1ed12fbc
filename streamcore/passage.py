"""One passage of a chunk through a part of the graph, and what comes of it.

Pure: no clock (a timer for the metrics is passed in), no Kafka, no asyncio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl

from streamcore.asking import Asked, Asking, AskingStep, decoding
from streamcore.batch import OFFSET, SUB, Batch, Chunk, Int64s, PartitionId, Range, Rejects, TimedBatch
from streamcore.contracts import Decoder, Sink
from streamcore.event_time import BEGINNING
from streamcore.graph import Agent, Graph, Late, Node, Stateful
from streamcore.state.operator import BEHIND, LATE_MARK, Operator
from streamcore.transforms.functions import renumbered

DECODE = "decode"
NO_POSITIONS = pl.Series(OFFSET, [], pl.Int64)
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
    the chunk and sometimes none, that covers the whole chunk; and for each operator a :class:`TimedBatch`
    for its log. ``rejects``: rows that became dead letters now. ``counts``: (node, counter) -> number.
    ``seconds``: stage -> time spent. ``decoded`` gives the rows before any step; None for redriven ones.
    """

    chunk: Chunk
    records: int
    writes: dict[str, Batch] = field(default_factory=dict)
    rejects: Rejects = field(default_factory=Rejects)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: Callable[[], pl.DataFrame] | None = None


class Passage:
    """One passage of frames through a part of the graph."""

    def __init__(self, graph: Graph, known: Mapping[str, pl.DataFrame], timer: Callable[[], float]) -> None:
        self.graph, self.known, self.timer = graph, known, timer
        self.frames: dict[str, pl.DataFrame] = {}
        self.rejects: list[Rejects] = []
        self.counts: dict[tuple[str, str], int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.timed_batches: dict[str, Batch] = {}
        self.late = self.future = NO_POSITIONS
        """Positions of the rows that are too late for windows, and of those from too far in the future."""
        self.behind: Int64s = np.zeros(0, np.int64)
        """How far each of the late rows lies before the watermark that held when it came, in microseconds."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to *stage*."""
        start = self.timer()
        yield
        self.seconds[stage] += self.timer() - start

    def decode(self, decoder: Decoder, chunk: Chunk) -> Asking[pl.DataFrame]:
        """The rows of *chunk*, less those that are dead letters already."""
        with self.timed(DECODE):
            decoded = yield from decoding(decoder, chunk)
        self.rejects.append(self.new(decoded.rejects))
        frame = decoded.frame
        for stage in SOURCE_STAGES & self.known.keys():
            # By row: the other rows of the same record were good.
            frame = frame.join(self.known[stage], on=[OFFSET, SUB], how="anti", maintain_order="left")
        return frame

    def through(self, nodes: Iterable[str]) -> Asking[None]:
        """Bring the frames at hand through *nodes*, which are in the graph's order."""
        for id in nodes:
            node = self.graph.nodes[id]
            inputs = [self.frames[i] for i in node.inputs if i in self.frames]
            if not inputs or id in self.frames:
                continue
            self.frames[id] = yield from self.apply(node, inputs[0] if len(inputs) == 1 else union(inputs))

    def apply(self, node: Node, frame: pl.DataFrame) -> Asking[pl.DataFrame]:
        """The rows that *node* lets pass of *frame*, less those that are its dead letters already."""
        if node.id in self.known:
            frame = frame.join(self.known[node.id], on=[OFFSET, SUB], how="anti", maintain_order="left")
        if isinstance(node.part, Late):
            return at(frame, self.late)
        if node.asks is not None:
            rows = yield from self._asked(node.id, node.asks, frame)
            with self.timed(node.id):
                result = node.asks.answered(frame, rows, node.id)
        elif node.step is not None:
            with self.timed(node.id):
                result = node.step.apply(frame, node.id)
        else:
            return frame
        if len(result.rejects):
            self.rejects.append(self.new(result.rejects))
        for counter, number in result.counts.items():
            self.counts[node.id, counter] += number
        return result.frame

    def _asked(self, id: str, step: AskingStep, frame: pl.DataFrame) -> Asking[pl.DataFrame]:
        """The rows from outside that *step* needs for *frame*."""
        with self.timed(id):
            keys = step.keys(frame)
        if not keys.height:
            return pl.DataFrame(schema=step.reference.types)
        rows: pl.DataFrame = yield Asked(id, step.reference, keys)
        return rows

    def new(self, rejects: Rejects) -> Rejects:
        """*rejects* without those that are dead letters already."""
        if not len(rejects) or not self.known:
            return rejects
        known = [f.with_columns(pl.lit(stage).alias("stage")) for stage, f in self.known.items()]
        return Rejects(rejects.frame.join(pl.concat(known), on=["stage", OFFSET, SUB], how="anti"))

    def outcome(self, chunk: Chunk, records: int, sinks: Iterable[str]) -> Outcome:
        """What has come of *chunk* with *records* records, for *sinks* and the operators' logs."""
        covered: dict[PartitionId, Range] = {chunk.source: chunk.covered}
        writes = {s: Batch(self.frames[s], covered, chunk) for s in sinks} | self.timed_batches
        return Outcome(
            chunk, records, writes, Rejects.join(self.rejects), dict(self.counts), dict(self.seconds)
        )


class Logged(NamedTuple):
    """Where an operator's log stands: it has the rows before ``position``, and ``watermark`` holds there."""

    position: int = 0
    watermark: int = BEGINNING


class Stage:
    """What is behind one source of positions: the nodes up to the next stateful ones, and those.

    *logged* says how much of the source is in the logs of those already: such rows are left out.
    Rows are judged from *begins* on, or from where the first row is new to an operator.
    """

    def __init__(
        self,
        graph: Graph,
        node: str,
        known: Collection[RowId],
        logged: Mapping[str, Logged],
        timer: Callable[[], float],
        begins: Logged | None = None,
    ) -> None:
        self.graph = graph
        self.nodes = graph.stage(node)
        self.sinks = tuple(n for n in self.nodes if isinstance(graph.nodes[n].part, Sink | Agent))
        self.stateful = tuple(n for n in self.nodes if n in graph.stateful)
        self.timed = frozenset(n for n in self.stateful if operator_of(graph, n).timed)
        """Those to which event time matters."""
        self.judges = bool(self.timed) or any(isinstance(graph.nodes[n].part, Late) for n in self.nodes)
        """Whether it matters which rows are late."""
        self._logged = {node: logged.get(node, Logged()) for node in self.stateful}
        self.begins = begins or min(self._logged.values(), default=Logged())
        """From where rows are judged, and the watermark there."""
        self.known = by_stage(known)
        self.timer = timer

    def passage(self) -> Passage:
        """A new passage through this stage."""
        return Passage(self.graph, self.known, self.timer)

    def outcome(
        self, run: Passage, chunk: Chunk, records: int, watermark: int, newest: int | None = None
    ) -> Asking[Outcome]:
        """Bring *run*, whose first frame is at hand, to its end; *watermark* is that behind *chunk*, and
        *newest* the one before the end, if that is what it says."""
        yield from run.through(self.nodes)
        for node in self.stateful:
            run.timed_batches[node] = self._timed(run, node, chunk, watermark, newest)
        return run.outcome(chunk, records, self.sinks)

    def advanced(
        self, chunk: Chunk, watermark: int, newest: int | None = None, *, idle: bool = False
    ) -> dict[str, Batch]:
        """For each operator whose watermark is older: a batch without rows that says *watermark*."""
        told: dict[str, Batch] = {}
        for node, logged in self._logged.items():
            if watermark > logged.watermark or (idle and node in self.timed):
                self._logged[node] = Logged(max(chunk.end, logged.position), max(watermark, logged.watermark))
                covered = {chunk.source: Range(chunk.end, chunk.end)}
                rows = operator_of(self.graph, node).no_rows
                told[node] = TimedBatch(rows, covered, chunk, self._logged[node].watermark, idle, newest)
        return told

    def _timed(self, run: Passage, node: str, chunk: Chunk, watermark: int, newest: int | None) -> TimedBatch:
        logged, frame = self._logged[node], run.frames[node]
        if chunk.first < logged.position:
            frame = frame.filter(pl.col(OFFSET) >= logged.position)
        if node in self.timed:
            frame = self._in_time(run, node, frame)
        with run.timed(node):
            delta = operator_of(self.graph, node).prepare(frame, node)
        run.rejects.append(run.new(delta.rejects))
        if BEHIND in frame.columns:
            run.counts[node, LATE] += frame.height - delta.rows.height - len(delta.rejects)
        reached = max(logged.watermark, watermark)
        self._logged[node] = Logged(max(chunk.end, logged.position), reached)
        return TimedBatch(delta.rows, {chunk.source: chunk.covered}, chunk, reached, newest=newest)

    def _in_time(self, run: Passage, node: str, frame: pl.DataFrame) -> pl.DataFrame:
        asked = operator_of(self.graph, node).no_rows.columns
        if BEHIND in asked:
            frame = _behind(frame, run)
        elif LATE_MARK in asked:
            late = pl.col(OFFSET).is_in(run.late.implode())
            frame = frame.with_columns(late.alias(LATE_MARK))
        else:
            run.counts[node, LATE] += 0
        if len(run.late) and not {LATE_MARK, BEHIND} & set(asked):
            run.counts[node, LATE] += at(frame, run.late).height
            frame = at(frame, run.late, but=True)
        if len(run.future):
            message = "the event time lies too far behind the record's own time (max_future)"
            run.rejects.append(run.new(Rejects.of(at(frame, run.future), node, "future", message)))
            frame = at(frame, run.future, but=True)
        return frame


def _behind(frame: pl.DataFrame, run: Passage) -> pl.DataFrame:
    """*frame* with BEHIND: how late each row is. Of a record with several rows that of the latest."""
    if not len(run.late):
        return frame.with_columns(pl.lit(0, pl.Int64).alias(BEHIND))
    late = pl.DataFrame({OFFSET: run.late, BEHIND: run.behind}).group_by(OFFSET).agg(pl.col(BEHIND).max())
    return frame.join(late, on=OFFSET, how="left", maintain_order="left").with_columns(
        pl.col(BEHIND).fill_null(0)
    )


def at(frame: pl.DataFrame, positions: pl.Series, *, but: bool = False) -> pl.DataFrame:
    """The rows of *frame* at *positions*, or all others."""
    found = pl.col(OFFSET).is_in(positions.implode())
    return frame.filter(~found if but else found)


def operator_of(graph: Graph, node: str) -> Operator:
    """The operator of the stateful *node*."""
    part = graph.nodes[node].part
    assert isinstance(part, Stateful)
    return part.operator


def by_stage(known: Collection[RowId]) -> dict[str, pl.DataFrame]:
    """For each stage the identities of the rows that it refused."""
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


def union(frames: list[pl.DataFrame]) -> pl.DataFrame:
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
