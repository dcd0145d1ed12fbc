"""A stateful node in this process, for one partition of its log, and what the group may commit of that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from streamcore.asking import Answer, AskingEach, answered_each, nobody
from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import Log
from streamcore.errors import Permanent
from streamcore.graph import Graph
from streamcore.passage import Logged, Outcome, RowId
from streamcore.runtime.recovery import Recovery
from streamcore.runtime.state_logs import StateLog
from streamcore.state.log_record import Entry, decode
from streamcore.state.places import MEMORY, Place
from streamcore.state.snapshot import Snapshot, SnapshotReader, is_snapshot
from streamcore.stateful_task import StatefulTask

_log = logging.getLogger(__name__)

Made = tuple[Outcome, bool]
_Values = list[tuple[int, bytes | None]]
"""Records of the log: offset and value."""


class KeptState:
    """Reads its log again from *first* after each take-over.

    Where what was before *first* has been dropped, a snapshot in the log says what it had led to. The
    group's commit of the log says up to where all sinks have what came out: *committed*. Sinks with
    positions of their own know better; the others are not given again what came out before it.
    """

    def __init__(
        self, log: StateLog, emissions: PartitionId, first: int, committed: int, end: int | None = None
    ) -> None:
        self._end = first if end is None else end
        self.recovery: Recovery | None = None
        """Reads what the log holds before *end*; None before :meth:`begin`."""
        self.log, self.emissions, self.first = log, emissions, first
        self._committed = self._settled = committed
        self._waiting: deque[tuple[int, int]] = deque()
        """(end of a chunk of the log, number of the next row to come out behind it)."""
        self._task: StatefulTask | None = None
        self._snapshots = SnapshotReader(first) if first > 0 else None
        """None as soon as the state is known."""
        self._held: _Values = []
        self._resumed: Snapshot | None = None
        self._told: Outcome | None = None
        """Where what comes out stands, to be said with the next chunk, if only one without records."""
        self.at = first
        """All before it was read, and what came of it was taken."""
        self._at_work = False
        """Whether something may come yet of the chunk that was read last: a question waits, or its taker."""
        self.since_snapshot = 0
        """Bytes of the entries that were read behind the newest snapshot; snapshots do not cause others."""

    def may_resume(self, as_of: int, emitted: int, positions: int) -> bool:
        """Whether it may go on from the state as of an offset, before which *emitted* rows came out.

        The log must still hold what follows, all sinks must have had what came out before: by the group's
        commit, and those that store positions, the least of which is *positions*, by these.
        """
        return self.first <= as_of <= min(self._committed, self._end) and emitted <= positions

    def resume(self, snapshot: Snapshot, since_snapshot: int = 0) -> None:
        """Called before :meth:`begin`: go on from *snapshot*, and read the log from there on."""
        self._resumed, self._snapshots = snapshot, None
        self.first = self.at = snapshot.as_of
        self.since_snapshot = since_snapshot

    def begin(
        self,
        graph: Graph,
        known: Collection[RowId],
        logged: Mapping[str, Logged],
        timer: Callable[[], float],
        place: Place = MEMORY,
    ) -> None:
        """Start with an empty state; *place* as for :class:`StatefulTask`."""
        what = f"the state of {self.log.node} of {self.log.topic}/{self.emissions.partition}"
        self.recovery = Recovery(what, self.first, self._end, timer)
        self._task = StatefulTask(
            graph,
            self.log.node,
            self.emissions,
            self.log.upstream,
            definition=self.log.definition,
            known=known,
            logged=logged,
            timer=timer,
            place=place,
        )
        if self._snapshots is not None:
            self._snapshots = SnapshotReader(self.first, self._task.places)
        if self._resumed is not None:
            snapshot, self._resumed = self._resumed, None
            self._restore(snapshot)

    @property
    def task(self) -> StatefulTask:
        """The node's task for this partition."""
        assert self._task is not None
        return self._task

    @property
    def begun(self) -> bool:
        """Whether it has a task."""
        return self._task is not None

    @property
    def ended(self) -> bool:
        """Whether everything that feeds it is bounded and has ended, and all that came of it was taken."""
        return self._task is not None and self._task.ended and not self._at_work

    @property
    def has_to_tell(self) -> bool:
        """Whether it went on from a state, and has not said yet where what comes out stands."""
        return self._told is not None

    @property
    def whole(self) -> bool:
        """Whether the state is that of all entries before :attr:`at`, and of no other."""
        return self.begun and self.knows and not self._at_work

    @property
    def knows(self) -> bool:
        """Whether the state is that of all entries so far: no snapshot is waited for."""
        return self._snapshots is None

    def on_chunk(self, chunk: Chunk, answer: Answer = nobody) -> Iterator[Made]:
        """What comes of *chunk*, when *answer* answers; see :meth:`asking`."""
        yield from answered_each(self.asking(chunk), answer)

    def asking(self, chunk: Chunk) -> AskingEach[Made]:
        """What comes of *chunk*; between that, what it needs from outside, to be answered."""
        self._at_work = True  # for good, if nobody answers: not all was taken then
        yield from self._made(chunk)
        self._at_work = False
        self.at = chunk.end

    def follow(self, chunk: Chunk) -> None:
        """Add *chunk* to the state while another process owns the partition: nothing comes out."""
        entries = [entry for _, entry in self._entries(chunk)]
        if entries:
            self.task.follow(entries)
        self.at = chunk.end

    def _made(self, chunk: Chunk) -> AskingEach[Made]:
        entries = self._entries(chunk)
        if self._told is not None:
            told, self._told = self._told, None
            yield told, True
        if not self.knows:
            return
        cut = int(np.searchsorted([offset for offset, _ in entries], self._committed))
        for part, repeated in ((entries[:cut], True), (entries[cut:], False)):
            outcome = (yield from self.task.asking([entry for _, entry in part])) if part else None
            if outcome is not None:
                yield outcome, repeated
        self._waiting.append((chunk.end, self.task.emitted))

    def _entries(self, chunk: Chunk) -> list[tuple[int, Entry]]:
        """The entries up to the end of *chunk* that the state does not have yet, if it is known by then."""
        values: _Values = list(zip(chunk.offsets().tolist(), chunk.values(), strict=True))
        if not self.knows:
            values = self._with_snapshot(values)
        if self.recovery is not None:
            self.recovery.moved(chunk.end, chunk.nbytes)
        if not self.knows:
            self._check_snapshot(chunk)
            return []
        values = [(offset, value) for offset, value in values if not is_snapshot(value)]
        self.since_snapshot += sum(len(value or b"") for _, value in values)
        return [(offset, decode(value)) for offset, value in values]

    def _with_snapshot(self, values: _Values) -> _Values:
        """The records that the state does not have yet, if it is known now."""
        assert self._snapshots is not None
        self._held += [(offset, value) for offset, value in values if not is_snapshot(value)]
        for _, value in values:
            if value is not None and is_snapshot(value):
                snapshot = self._snapshots.add(value)
                if snapshot is not None:
                    self._restore(snapshot)
                    held, self._held = self._held, []
                    return [(offset, value) for offset, value in held if offset >= snapshot.as_of]
        return []

    def _check_snapshot(self, chunk: Chunk) -> None:
        """Permanent when all that the log held has been read, and no snapshot says what was before it."""
        if self.first < self._end <= chunk.end:
            raise Permanent(
                f"the state of {self.log.node!r} can't be made again: its log has lost what was before its "
                "first record, and holds no whole snapshot of that",
                where=f"{self.log.topic}/{self.emissions.partition}",
                got=self.first,
                fix="set the topic's retention back to -1; give the node another name= to begin anew",
            )

    def _restore(self, snapshot: Snapshot) -> None:
        self.task.restore(snapshot)
        self._snapshots = None
        self._told = self.task.standing()

    def settled(self, confirmed: int | None) -> int | None:
        """Up to where the log may be committed when rows before *confirmed* are in all sinks."""
        while confirmed is not None and self._waiting and self._waiting[0][1] <= confirmed:
            self._settled = max(self._settled, self._waiting.popleft()[0])
        return self._settled


async def taken_over(
    log: Log, logs: Mapping[str, StateLog], topology: str, starts: Mapping[PartitionId, int]
) -> dict[PartitionId, KeptState]:
    """The states whose logs, of those in *logs*, are among *starts*: partitions and the group's commits."""
    bounds = {topic: await log.bounds(topic) for topic in logs.keys() & {s.topic for s in starts}}
    found = {}
    for source, committed in starts.items():
        if (own := logs.get(source.topic)) is not None:
            held = bounds[source.topic][source.partition]
            _log.info("state of %s: %d records of its log %s", own.node, len(range(*held)), source)
            out = own.emissions(topology, source)
            found[source] = KeptState(own, out, held.start, committed, held.end)
    return found
