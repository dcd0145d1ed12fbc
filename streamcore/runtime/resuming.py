"""From where states go on after a take-over: what this process has of them, a copy on its disk, or the log.

All three lead to the same state: it is a function of the log and an offset. Of what is here only that is used
which the log still continues and behind which no sink lacks anything (:meth:`KeptState.may_resume`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from faust.types import TP

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.errors import Permanent
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.sink_runner import SinkRunner
from streamcore.runtime.standbys import Standbys
from streamcore.runtime.state_copies import Copy
from streamcore.state.places import Place
from streamcore.state.snapshot import Snapshot, SnapshotReader
from streamcore.stateful_task import places_of

log = logging.getLogger(__name__)
_AT_ONCE = 8
"""Records of a copy that are read before others get their turn."""
_NO_LEAST = 1 << 62


class Resuming:
    """What is here of states, for the next take-over. *wanted* of the group's assignment says for which
    partitions this process stands by."""

    def __init__(self, graph: Graph, log: Log, metrics: Metrics, options: PipelineOptions) -> None:
        self._graph, self._options = graph, options
        self.standbys = Standbys(graph, log, options.state_logs, metrics)
        self.wanted: Callable[[], Collection[TP]] = frozenset
        if options.copies is not None:
            options.copies.keep_only(options.state_logs.keys())

    async def resume(
        self,
        kept: Mapping[PartitionId, KeptState],
        stands: Mapping[PartitionId, Mapping[str, int]],
        runners: Mapping[str, SinkRunner],
    ) -> None:
        """Let each of *kept*, which have not begun, go on from the newest state of it that is here, if any.

        *stands*: where the sinks, whose *runners* say whether they store positions, stand in what comes out.
        """
        for source, state in kept.items():
            positions = stands[state.emissions].items()
            least = min((at for sink, at in positions if runners[sink].stores_positions), default=_NO_LEAST)
            warm, copy = self.standbys.take(source), self._copy(source, state)
            if warm is not None and state.may_resume(warm.snapshot.as_of, warm.snapshot.state.emitted, least):
                state.resume(warm.snapshot, warm.since_snapshot)
                log.info("state of %s: goes on from what is here, as of %d", source, warm.snapshot.as_of)
            elif copy is not None and state.may_resume(copy.as_of, copy.emitted, least):
                await self._load(source, state, copy, self._options.place(len(kept)))

    def leave(self, kept: Mapping[PartitionId, KeptState]) -> None:
        """*kept* are given up for now."""
        for source, state in kept.items():
            self.standbys.leave(source, state)

    def keep(self, owned: int) -> None:
        """Behind a take-over of *owned* states: which are kept beside them."""
        wanted = [tp for tp in self.wanted() if tp.topic in self._options.state_logs]
        self.standbys.keep(wanted, self._options.place(owned + len(wanted)))

    def _copy(self, source: PartitionId, state: KeptState) -> Copy | None:
        """The copy of *state*; one of no use any more is removed."""
        copies = self._options.copies
        copy = None if copies is None else copies.find(source, state.log.definition)
        if copies is not None and (copy is None or copy.as_of < state.first):
            copies.remove(source)
            return None
        return copy

    async def _load(self, source: PartitionId, state: KeptState, copy: Copy, place: Place) -> None:
        snapshot = await _read(
            copy, SnapshotReader(copy.as_of, places_of(self._graph, state.log.node, place))
        )
        if snapshot is not None:
            state.resume(snapshot)
            log.info("state of %s: goes on from its copy, as of %d", source, snapshot.as_of)
        elif self._options.copies is not None:
            self._options.copies.remove(source)


async def _read(copy: Copy, reader: SnapshotReader) -> Snapshot | None:
    """The snapshot in *copy*; None when its file is torn or altered."""
    found = None
    try:
        for number, value in enumerate(copy.records()):
            found = reader.add(value) or found
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
    except (ValueError, OSError, Permanent) as error:
        log.warning("the copy %s is not used: %s", copy.path, error)
        return None
    return found
