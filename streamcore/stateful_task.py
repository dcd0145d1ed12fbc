"""One stateful operator of a topology, over one partition of its log: rows in, what it makes of them out.

An operator's log holds the rows of all its upstream partitions, sorted to partitions by its keys
(:mod:`streamcore.state.log_record`). All state is a function of the log: recovery is reading it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
from polars.exceptions import PolarsError

from streamcore.asking import Answer, Asking, answered, nobody
from streamcore.batch import HIDDEN, OFFSET, FrameChunk, PartitionId, TimedBatch, nothing_at
from streamcore.errors import Permanent
from streamcore.event_time import BEGINNING, END
from streamcore.graph import Graph
from streamcore.passage import LATE, Logged, Outcome, RowId, Stage, operator_of
from streamcore.state.log_record import Entry, Upstream, entries_of
from streamcore.state.operator import LATE_MARK, UPSTREAM, Operator
from streamcore.state.places import MEMORY, Place
from streamcore.state.runs import Runs
from streamcore.state.snapshot import Read, Snapshot
from streamcore.transforms.bisect import apply_or_reject


@dataclass(slots=True)
class _Read:
    """What is known of an upstream partition: how far it came, in positions and in time."""

    covered: int | None = None
    watermark: int = BEGINNING
    idle: bool = False


class StatefulTask:
    """The state of the stateful *node* for one partition of its log.

    Its watermark is the least of its *upstream* partitions', but for idle ones. A row is judged late in
    its own partition, so a window that closes has all rows that were not late, in whatever order the
    partitions were read: unless a partition was idle, what comes out, and its numbering, depends on what
    the partitions hold alone. *source* names the stream of what comes out; *definition* is what the log's
    records must have been made for; *place* is where large runs of the state lie.
    """

    def __init__(
        self,
        graph: Graph,
        node: str,
        source: PartitionId,
        upstream: Collection[Upstream],
        *,
        definition: str = "",
        known: Collection[RowId] = (),
        logged: Mapping[str, Logged] | None = None,
        timer: Callable[[], float] = lambda: 0.0,
        place: Place = MEMORY,
    ) -> None:
        self.node, self.source = node, source
        self._operator, self._definition = operator_of(graph, node), definition
        empty = self._operator.empty
        self._state = replace(empty, kept=tuple(Runs((), place.shared(len(empty.kept))) for _ in empty.kept))
        self._upstream = {name: _Read() for name in upstream}
        self._newest = BEGINNING
        """The newest watermark of any upstream partition, but for that behind its end."""
        self._numbers = _numbers(upstream) if UPSTREAM in self._operator.no_rows.columns else None
        self.stage = Stage(graph, node, known, logged or {}, timer)

    @property
    def emitted(self) -> int:
        """How many rows have come out: the number of the next one."""
        return self._state.emitted

    @property
    def ended(self) -> bool:
        """Whether all upstream partitions are bounded and have ended."""
        return all(read.watermark == END for read in self._upstream.values())

    @property
    def pieces(self) -> int:
        """How many pieces the state holds: at least one a key, and a few more until they are merged."""
        return len(self._state)

    @property
    def watermark(self) -> int:
        """The state's watermark, in microseconds."""
        return self._state.watermark

    @property
    def nbytes(self) -> int:
        """About how many bytes the state takes."""
        return sum(int(run.estimated_size()) for runs in self._state.kept for run in runs)

    def shown(self) -> pl.DataFrame:
        """What the state holds, for people."""
        return self._operator.shown(self._state)

    def snapshot(self, as_of: int) -> Snapshot:
        """The state, which all entries of the log before the offset *as_of* have led to."""
        reads = {up: Read(read.covered, read.watermark, read.idle) for up, read in self._upstream.items()}
        return Snapshot(as_of, self._definition, reads, self._state, self._newest)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from *snapshot*, whose frames are as :attr:`places` or another task of this process has made
        them. Permanent when another declaration has made it."""
        self._check_definition(snapshot.definition, "a snapshot")
        for upstream, read in snapshot.reads.items():
            self._upstream[upstream] = _Read(read.covered, read.watermark, read.idle)
        self._newest = snapshot.newest
        pairs = zip(snapshot.state.kept, self._state.kept, strict=True)
        kept = tuple(Runs(tuple(frames), own.place) for frames, own in pairs)
        self._state = replace(snapshot.state, kept=kept)

    @property
    def places(self) -> Sequence[Place]:
        """What makes frames that another process has written into this one's, of each kind of pieces."""
        return [_Restoring(self._operator, kind, runs.place) for kind, runs in enumerate(self._state.kept)]

    def standing(self) -> Outcome:
        """Where what comes out stands, without rows: nodes whose log does not know how far the times came are
        told. What was said without rows has no position, and may be lost when the log is passed by it.
        """
        here = nothing_at(self.source, self._state.emitted)
        return Outcome(here, 0, self.stage.advanced(here, *self._reached))

    def on_entries(self, entries: Sequence[Entry], answer: Answer = nobody) -> Outcome | None:
        """The result of :meth:`asking` when *answer* answers."""
        return answered(self.asking(entries), answer)

    def asking(self, entries: Sequence[Entry]) -> Asking[Outcome | None]:
        """Add *entries*, which follow those before in the log; None when nothing comes of it.

        Permanent for entries that this operator can't have been sent.
        """
        first, before = self._state.emitted, self._state.watermark
        emissions, late = self._applied(entries)
        if self._state.emitted == first and not late and self._state.watermark == before:
            return None
        outcome: Outcome = yield from self._outcome(emissions, first, late)
        return outcome

    def follow(self, entries: Sequence[Entry]) -> None:
        """Add *entries* to the state alone: what comes out is another process's. Permanent as for asking."""
        self._applied(entries)

    def _applied(self, entries: Sequence[Entry]) -> tuple[list[pl.DataFrame], int]:
        """What the operator gives for *entries*, and how many rows were late."""
        emissions, late = list[pl.DataFrame](), 0
        for group in self._together(entries):
            rows = [rows for entry in group if (rows := self._new(entry)) is not None]
            for came, watermark in self._steps(rows):
                self._state, emission, dropped = self._operator.apply(self._state, came, watermark)
                late += dropped
                if emission.height:
                    emissions.append(emission)
        return emissions, late

    def _steps(self, rows: Sequence[pl.DataFrame]) -> Sequence[tuple[Sequence[pl.DataFrame], int]]:
        """*rows* and the watermark behind them. Before the end that is the newest there was in any upstream
        partition: what is over by then does not depend on which of them ended last."""
        watermark = self._lowest()
        return [(rows, self._newest), ([], END)] if watermark == END else [(rows, watermark)]

    def _together(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """All *entries* at once, or one by one when the order among partitions matters."""
        idle = any(read.idle for read in self._upstream.values()) or any(entry.idle for entry in entries)
        each = idle or self._operator.orderly
        yield from ([entry] for entry in entries) if each else [entries]

    def _new(self, entry: Entry) -> pl.DataFrame | None:
        """The rows of *entry* that are not here yet; it counts as read from now on."""
        self._check_definition(entry.definition, f"{entry.upstream[0]}/{entry.upstream[1]}")
        read = self._upstream.get(entry.upstream)
        if read is None:
            raise Permanent(
                f"the log of {self.node!r} has rows of a partition that the topology does not read",
                got=f"{entry.upstream[0]}/{entry.upstream[1]}",
                allowed=[f"{topic}/{number}" for topic, number in self._upstream],
                fix="start again if the topic got more partitions, else give it another name=",
            )
        position = entry.start if read.covered is None else read.covered
        if entry.start > position:
            raise Permanent(
                f"the log of {self.node!r} has a hole",
                where=f"{entry.upstream[0]}/{entry.upstream[1]}",
                got=entry.start,
                allowed=[position],
                fix="start again; please report it",
            )
        if entry.end < position or (entry.end == position > entry.start and read.covered is not None):
            return None  # written again by a worker that came later, or too late
        rows = entry.after(position)
        read.covered, read.idle = entry.end, entry.idle
        read.watermark = max(read.watermark, entry.watermark)
        if entry.watermark != END:
            self._newest = max(self._newest, entry.watermark)
        if rows is not None and self._numbers is not None:
            rows = rows.with_columns(pl.lit(self._numbers[entry.upstream], pl.Int64).alias(UPSTREAM))
        return rows

    def _check_definition(self, definition: str, where: str) -> None:
        if definition != self._definition:
            raise Permanent(
                f"the log of {self.node!r} was written for another declaration of it, or of a step before it",
                where=where,
                got=self._definition,
                allowed=[definition],
                fix="give it another name=, or bring the old declaration back",
            )

    def _lowest(self) -> int:
        busy = [read.watermark for read in self._upstream.values() if not read.idle]
        return min(busy) if busy else max(read.watermark for read in self._upstream.values())

    def _outcome(self, emissions: Sequence[pl.DataFrame], first: int, late: int) -> Asking[Outcome]:
        run, end = self.stage.passage(), self._state.emitted
        told = self._reached
        rows = pl.concat(emissions) if emissions else self._operator.nothing_out
        if LATE_MARK in rows.columns:  # judged where they were read, and no second time
            run.late, rows = rows.filter(LATE_MARK)[OFFSET], rows.drop(LATE_MARK)
        chunk = FrameChunk(self.source, rows[OFFSET].to_numpy(), rows.drop(HIDDEN), first=first, end=end)
        if first == end:
            counts = {(self.node, LATE): late} if late else {}
            return Outcome(chunk, 0, self.stage.advanced(chunk, *told), counts=counts)
        with run.timed(self.node):
            emission, rejects = apply_or_reject(
                rows, self._operator.finish, self.node, "expression", _unfinished, (PolarsError,)
            )
        run.rejects.append(run.new(rejects))
        if self._operator.timed:
            run.counts[self.node, LATE] += late
        run.frames[self.node] = emission
        outcome: Outcome = yield from self.stage.outcome(run, chunk, rows.height, *told)
        return outcome

    @property
    def _reached(self) -> tuple[int, int]:
        """The watermark of what comes out, and the newest one."""
        return self._told(self._state.watermark), self._told(self._newest)

    def _told(self, watermark: int) -> int:
        """The watermark of what comes out where the state's is *watermark*."""
        return watermark if watermark == END else max(watermark - self._operator.lag, BEGINNING)


@dataclass(frozen=True)
class _Restoring:
    """Puts frames of a *kind* of pieces of *operator* into *place*, as this process has them."""

    operator: Operator
    kind: int
    place: Place

    def shared(self, kinds: int) -> Place:
        """See :class:`~streamcore.state.places.Place`."""
        return replace(self, place=self.place.shared(kinds))

    def trim(self) -> None:
        """See :class:`~streamcore.state.places.Place`."""
        self.place.trim()

    def put(self, frame: pl.DataFrame, size: int) -> pl.DataFrame:
        """See :class:`~streamcore.state.places.Place`."""
        kinds = range(len(self.operator.empty.kept))
        (made,) = self.operator.restored([[frame] if n == self.kind else [] for n in kinds])[self.kind]
        return self.place.put(made, size)


def places_of(graph: Graph, node: str, place: Place) -> Sequence[Place]:
    """The :attr:`StatefulTask.places` of *node*, whose frames are to lie in *place*."""
    operator = operator_of(graph, node)
    kinds = len(operator.empty.kept)
    return [_Restoring(operator, kind, place.shared(kinds)) for kind in range(kinds)]


def _numbers(upstream: Collection[Upstream]) -> dict[Upstream, int]:
    """See :data:`~streamcore.state.operator.UPSTREAM`: more partitions do not change those that are there."""
    topics = sorted({topic for topic, _ in upstream})
    return {(topic, number): number * len(topics) + topics.index(topic) for topic, number in upstream}


def _unfinished(error: Exception) -> str:
    return f"an aggregate can't be computed: {type(error).__name__}"


class StatefulTasks:
    """All stateful nodes of a topology at once, each with one partition and without a log, for tests and
    previews.

    *partitions* are those of the streams, as (stream, number).
    """

    def __init__(self, graph: Graph, partitions: Sequence[Upstream], answer: Answer = nobody) -> None:
        self._answer = answer
        self._tasks: dict[str, StatefulTask] = {}
        feeding = [*partitions]
        for node in graph.stateful:
            upstream = [name for name in feeding if node in graph.stage(name[0])]
            self._tasks[node] = StatefulTask(graph, node, PartitionId(node, 0, "local"), upstream)
            feeding.append((node, 0))

    def through(self, outcome: Outcome) -> Iterator[Outcome]:
        """*outcome*, and what comes of it in the stateful nodes that it reaches."""
        yield outcome
        for node, task in self._tasks.items():
            batch = outcome.writes.get(node)
            if isinstance(batch, TimedBatch):
                made = task.on_entries(entries_of(batch, ""), self._answer)
                yield from self.through(made) if made is not None else ()
