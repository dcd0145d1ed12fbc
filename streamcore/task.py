"""The work of a topology for one partition: the one core that every driver drives.

A :class:`PartitionTask` is synchronous and pure: chunks go in, an :class:`Outcome` comes out. The
Faust agents of a worker and the test kit's TopologyDriver drive this same object, so there is one
engine. It knows no clock (a timer for the metrics is passed in), no Kafka, no asyncio.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.asking import Answer, Asking, answered, nobody
from streamcore.batch import HIDDEN_TYPES, OFFSET, SUB, Batch, Chunk, Int64s, PartitionId, Rejects
from streamcore.contracts import Decoder
from streamcore.durations import microseconds_of
from streamcore.event_time import judge, microseconds
from streamcore.formats import decoder_for
from streamcore.formats.clocked import ClockedDecoder
from streamcore.graph import Graph, Source
from streamcore.passage import SOURCE_STAGES, Logged, Outcome, Passage, RowId, Stage, by_stage, union


class PartitionTask:
    """A topology's work for one partition of one of its streams.

    *known* are rows at or above the resume position that are dead letters already: they are refused
    again, silently, so that a row's effect and its dead letter exclude each other. *logged* is how much
    of the partition the windows' logs have. *begins*: from where rows are judged, when that is not where
    the first is new to a window.
    """

    def __init__(
        self,
        graph: Graph,
        stream: str,
        source: PartitionId,
        *,
        known: Collection[RowId] = (),
        logged: Mapping[str, Logged] | None = None,
        begins: Logged | None = None,
        timer: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        node = graph.sources[stream]
        assert isinstance(node.part, Source)
        self.node, self.source, self._clock = node, source, clock
        self._decoder = decoder_of(node.part, self._now)
        self._last_known = max((k.offset for k in known), default=-1)
        self.stage = Stage(graph, node.id, known, logged or {}, timer, begins)
        self.watermark = self.stage.begins.watermark
        """Of the partition, in microseconds; kept where windows are fed."""

    @property
    def joins(self) -> bool:
        """Whether its chunks may pass together with those of the stream's other partitions, see ``joint``."""
        return not (self.stage.known or self.stage.judges or self.stage.stateful)

    def _now(self) -> int:
        """The processing time in microseconds. It never goes back, so that no row is late by it."""
        return max(int(self._clock() * 1_000_000), self.watermark)

    def on_chunk(self, chunk: Chunk, answer: Answer = nobody) -> Outcome:
        """The result of :meth:`asking` when *answer* answers."""
        return answered(self.asking(chunk), answer)

    def asking(self, chunk: Chunk) -> Asking[Outcome]:
        """Decode *chunk* and bring its rows through the graph.

        Chunks of a partition come in order, each starting where the last one ended. Raises Permanent
        only where a step asks for a stop (``on_fail="stop"``) or a user's function broke its promise.
        """
        if self.stage.known and chunk.first > self._last_known:
            self.stage.known = {}
        run = self.stage.passage()
        decoded = yield from run.decode(self._decoder, chunk)
        run.frames[self.node.id] = decoded
        if self.stage.judges:
            self._judge(run, decoded, chunk)
        records = len(chunk) + len(chunk.rejects)
        outcome = yield from self.stage.outcome(run, chunk, records, self.watermark)
        outcome.decoded = lambda: decoded
        return outcome

    def _judge(self, run: Passage, decoded: pl.DataFrame, chunk: Chunk) -> None:
        """Tell *run* which rows are late, once for all windows; rows without a time are left to those."""
        part = self.node.source
        assert part.event_time is not None
        if chunk.first < self.stage.begins.position:
            decoded = decoded.filter(pl.col(OFFSET) >= self.stage.begins.position)
        times = microseconds(decoded[part.event_time])
        if times.has_nulls():
            decoded, times = decoded.filter(times.is_not_null()), times.drop_nulls()
        offsets, instants = decoded[OFFSET], times.to_numpy()
        if (future := _from_the_future(instants, offsets, chunk, part.max_future)) is not None:
            run.future = offsets.filter(pl.Series(future))
            offsets, instants = offsets.filter(pl.Series(~future)), instants[~future]
        judged = judge(instants, self.watermark, microseconds_of(part.max_lateness))
        self.watermark = judged.watermark
        if judged.late.any():
            run.late = offsets.filter(pl.Series(judged.late))
            run.behind = judged.behind[judged.late]

    def on_watermark(self, chunk: Chunk, watermark: int, *, idle: bool = False) -> Outcome:
        """The batches that tell the windows' logs that no row before *watermark* is waited for any more.

        *chunk* is an empty one at the partition's position. ``time.END`` ends a bounded stream. *idle*:
        the partition has been read to its end for a while, and windows need not wait for it.
        """
        self.watermark = max(self.watermark, watermark)
        return Outcome(chunk, 0, self.stage.advanced(chunk, watermark, idle=idle))


def decoder_of(source: Source, now: Callable[[], int]) -> Decoder:
    """The decoder of the stream *source*; *now* gives microseconds since 1970."""
    decoder = decoder_for(source.format, source.schema)
    return decoder if source.time_of is None else ClockedDecoder(decoder, source.time_of, now)


def _from_the_future(
    instants: Int64s, offsets: pl.Series, chunk: Chunk, most: dt.timedelta | None
) -> npt.NDArray[np.bool_] | None:
    """Which rows are dated more than *most* after their records' time stamps; None when none is.

    Records without a time stamp, and those of 1970-01-01 00:00, which say none, are not judged.
    """
    stamps = chunk.timestamps()
    if most is None or stamps is None or not len(instants):
        return None
    limits = stamps[chunk.index(offsets.to_numpy())] * 1_000 + microseconds_of(most)
    future: npt.NDArray[np.bool_] = (instants > limits) & (limits > microseconds_of(most))
    return future if future.any() else None


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

    joins = False
    """See :attr:`PartitionTask.joins`."""

    def __init__(
        self,
        graph: Graph,
        source: PartitionId,
        *,
        unpack: Callable[[Chunk], Sequence[tuple[Chunk, Redriven]]],
        known: Collection[RowId] = (),
        timer: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.graph, self.source, self._unpack, self._timer = graph, source, unpack, timer
        self._known = by_stage(known)
        self._decoders = {
            name: decoder_of(node.part, lambda: int(clock() * 1_000_000))
            for name, node in graph.sources.items()
            if isinstance(node.part, Source)
        }
        self.sinks = tuple(graph.sinks)

    def on_chunk(self, chunk: Chunk, answer: Answer = nobody) -> Outcome:
        """As :meth:`PartitionTask.on_chunk`."""
        return answered(self.asking(chunk), answer)

    def asking(self, chunk: Chunk) -> Asking[Outcome]:
        """Like :meth:`PartitionTask.asking`. Rows of stages that no longer exist are rejects."""
        parts: dict[str, list[pl.DataFrame]] = {sink: [] for sink in self.sinks}
        total = Outcome(chunk, len(chunk))
        rejects: list[Rejects] = []
        for record, redriven in self._unpack(chunk):
            run = Passage(self.graph, self._known, self._timer)
            known = redriven.stream in self._decoders
            if not known or not (yield from self._enter(run, record, redriven)):
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

    def _enter(self, run: Passage, record: Chunk, redriven: Redriven) -> Asking[bool]:
        source = self.graph.sources[redriven.stream].id
        stage = source if redriven.stage in SOURCE_STAGES else redriven.stage
        if stage not in (source, *self.graph.stage(source)):
            return False
        behind = self.graph.stage(stage)
        if self.graph.stateful.keys() & {stage, *behind}:
            return False  # the window that the row belongs to may be closed
        decoded = yield from run.decode(self._decoders[redriven.stream], record)
        if stage == source:
            run.frames[source] = _own_rows(run, decoded, redriven)
        else:
            run.frames[source] = decoded
            before = [n for n in self.graph.stage(source) if n != stage and n not in behind]
            yield from run.through(before)
            inputs = [run.frames[i] for i in self.graph.nodes[stage].inputs if i in run.frames]
            entering = union(inputs) if len(inputs) > 1 else inputs[0]
            entering = entering.filter(pl.col(SUB) == redriven.sub)
            if entering.height:
                run.rejects.clear()  # what the record met on other ways was settled the first time
            run.frames = {stage: (yield from run.apply(self.graph.nodes[stage], entering))}
        yield from run.through(behind)
        return True


def _own_rows(run: Passage, decoded: pl.DataFrame, redriven: Redriven) -> pl.DataFrame:
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


def _hidden(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.Series(name, [], dtype) for name, dtype in HIDDEN_TYPES.items())
