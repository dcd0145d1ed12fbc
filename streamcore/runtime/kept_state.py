"""A window's state in this process, for one partition of its log, and what the group may commit of that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from streamcore.batch import Chunk, PartitionId
from streamcore.graph import Graph
from streamcore.passage import Logged, Outcome, RowId
from streamcore.runtime.state_logs import StateLog
from streamcore.state.log_record import decode
from streamcore.stateful_task import StatefulTask


class KeptState:
    """Reads its log again from *first* after each take-over.

    The group's commit of the log says up to where all sinks have what came out: *committed*. Sinks with
    positions of their own know better; the others are not given again what came out before it.
    """

    def __init__(self, log: StateLog, emissions: PartitionId, first: int, committed: int) -> None:
        self.log, self.emissions, self.first = log, emissions, first
        self._committed = self._settled = committed
        self._waiting: deque[tuple[int, int]] = deque()
        """(end of a chunk of the log, number of the next row to come out behind it)."""
        self._task: StatefulTask | None = None

    def begin(
        self,
        graph: Graph,
        known: Collection[RowId],
        logged: Mapping[str, Logged],
        timer: Callable[[], float],
    ) -> None:
        """Start with an empty state."""
        self._task = StatefulTask(
            graph,
            self.log.window,
            self.emissions,
            self.log.upstream,
            definition=self.log.definition,
            known=known,
            logged=logged,
            timer=timer,
        )

    @property
    def ended(self) -> bool:
        """Whether everything that feeds it is bounded and has ended."""
        return self._task is not None and self._task.ended

    def on_chunk(self, chunk: Chunk) -> Iterator[tuple[Outcome, bool]]:
        """What comes of *chunk*, and whether it came out before the commit."""
        assert self._task is not None
        entries = [decode(value) for value in chunk.values()]
        cut = int(np.searchsorted(chunk.offsets(), self._committed))
        for part, repeated in ((entries[:cut], True), (entries[cut:], False)):
            outcome = self._task.on_entries(part) if part else None
            if outcome is not None:
                yield outcome, repeated
        self._waiting.append((chunk.end, self._task.emitted))

    def settled(self, confirmed: int | None) -> int | None:
        """Up to where the log may be committed when rows before *confirmed* are in all sinks."""
        while confirmed is not None and self._waiting and self._waiting[0][1] <= confirmed:
            self._settled = max(self._settled, self._waiting.popleft()[0])
        return self._settled
