"""Standbys: states that this process keeps of partitions that are not its own, so that it need not make them
again of their logs when it takes them over.

A partition's state comes here when its owner gives it up (at each rebalance), and goes back to it, or goes on
here for another worker that owns it now; that of a partition that was never here is made of its log. It reads
the log as far as the group has committed it, where no sink lacks anything that came out, and no further.
Nothing comes out of it, and nothing is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from faust.types import TP

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.errors import Permanent, StreamcoreError
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_logs import StateLog
from streamcore.state.places import Place
from streamcore.state.snapshot import Snapshot

log = logging.getLogger(__name__)
EVERY = 1.0
"""Seconds between two looks at what the group has committed; longer when a look takes longer."""

Commits = Callable[[], Awaitable[Mapping[tuple[str, int], int]]]
"""What the group has committed, by topic and partition."""


class Warm(NamedTuple):
    """A state that is here, and the bytes of its log that were read since its last snapshot."""

    snapshot: Snapshot
    since_snapshot: int


@dataclass
class Standby:
    """The state of a partition that another worker owns; ``behind``: records until the group's commit."""

    kept: KeptState
    source: PartitionId | None = None
    """None before the first record: which topic it is of is not known."""
    behind: int = field(default=0)


class Standbys:
    """The states that are here and not owned. *logs* are by topic."""

    def __init__(self, graph: Graph, log: Log, logs: Mapping[str, StateLog], metrics: Metrics) -> None:
        self._graph, self._log, self._logs, self._metrics = graph, log, logs, metrics
        self._here: dict[TP, Standby] = {}
        self.wanted: frozenset[TP] = frozenset()
        """Those that are to be here."""
        self._place: Place | None = None

    @property
    def here(self) -> Mapping[TP, Standby]:
        """The standbys, by the partition of their log."""
        return self._here

    # ------------------------------------------------------------ rebalances

    def leave(self, source: PartitionId, kept: KeptState) -> None:
        """*kept* is given up; it may be :meth:`take`-n again. Nobody adds to it any more."""
        if kept.whole:
            kept.recovery = None
            self._here[TP(source.topic, source.partition)] = Standby(kept, source)

    def take(self, source: PartitionId) -> Warm | None:
        """What is here of the state of *source*, which this process owns now."""
        standby = self._here.pop(TP(source.topic, source.partition), None)
        if standby is None or standby.source != source or not standby.kept.whole:
            return None
        kept = standby.kept
        return Warm(kept.task.snapshot(kept.at), kept.since_snapshot)

    def keep(self, wanted: Collection[TP], place: Place) -> None:
        """From now on *wanted* are to be here, and no other ones; new ones have their frames in *place*."""
        self.wanted, self._place = frozenset(wanted), place
        for tp in self._here.keys() - self.wanted:
            del self._here[tp]
        self._tell()

    # ------------------------------------------------------------ following

    async def follow(self, commits: Commits) -> None:
        """Read the logs of the standbys as far as the group has *commits*, for ever."""
        told = ""
        while True:
            began = time.monotonic()
            try:
                committed = await commits() if self.wanted else {}
                for tp in sorted(self.wanted):
                    await self._catch_up(tp, committed.get(tuple(tp), 0))
                told = ""
            except StreamcoreError as error:
                if str(error) != told:  # once, however long it lasts
                    log.warning("standbys: %s", error)
                told = str(error)
            self._tell()
            await asyncio.sleep(max(EVERY, time.monotonic() - began))

    async def _catch_up(self, tp: TP, committed: int) -> None:
        """Bring the standby of *tp* to *committed*."""
        standby = self._here.get(tp) or await self._begun(tp)
        if standby is None or self._here.get(tp) is not standby:
            return
        standby.behind = max(committed - standby.kept.at, 0)
        if not standby.behind:
            return
        try:
            async for chunk in self._log.scan(tp.topic, tp.partition, standby.kept.at, committed):
                if self._here.get(tp) is not standby:
                    return  # it was taken over
                if chunk.first > standby.kept.at or standby.source not in (None, chunk.source):
                    del self._here[tp]  # the log was cut there, or is another one; it begins anew
                    return
                standby.source = chunk.source
                standby.kept.follow(chunk)
                standby.behind = max(committed - chunk.end, 0)
        except Permanent as error:  # its owner will end with the same one, if it is one for it
            log.warning("standby of %s/%d: %s", tp.topic, tp.partition, error)
            self._here.pop(tp, None)

    async def _begun(self, tp: TP) -> Standby | None:
        """A standby that knows nothing yet."""
        own, place = self._logs[tp.topic], self._place
        first = (await self._log.bounds(tp.topic))[tp.partition].start
        if tp not in self.wanted or tp in self._here or place is None:
            return None
        kept = KeptState(
            own, own.emissions(self._graph.name, PartitionId(tp.topic, tp.partition, "")), first, first
        )
        kept.begin(self._graph, (), {}, lambda: 0.0, place)
        kept.recovery = None
        self._here[tp] = Standby(kept)
        return self._here[tp]

    def _tell(self) -> None:
        self._metrics.tell_standbys(
            self._graph.name, {tuple(tp): standby.behind for tp, standby in self._here.items()}
        )
