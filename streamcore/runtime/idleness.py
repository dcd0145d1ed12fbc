"""Partitions without new rows: windows stop waiting for them, and may close by the clock.

What is said here goes into the windows' logs before anything acts on it, so a restart sees the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamcore.batch import PartitionId
from streamcore.event_time import BEGINNING
from streamcore.graph import Graph, Source
from streamcore.runtime.pipeline import Pipeline

_MICROSECOND = dt.timedelta(microseconds=1)
_SHARE = 0.25
"""Of ``close_after``: how often the clock is told while nothing comes."""


@dataclass(slots=True)
class _Quiet:
    """Since when (monotonic seconds) a partition stands at ``position``, and what was said of it."""

    position: int
    since: float
    watermark: int
    """At the last row."""
    idle: bool = False
    told: float = 0.0
    """When the clock was told last."""


class Idleness:
    """Looks at the partitions of *pipeline* that feed windows.

    *streams* maps topics to names of streams; *end_of* gives the end of a partition, None while it is
    unknown; *clock* gives monotonic seconds.
    """

    def __init__(
        self,
        graph: Graph,
        pipeline: Pipeline,
        streams: Mapping[str, str],
        end_of: Callable[[PartitionId], int | None],
        clock: Callable[[], float],
    ) -> None:
        self._pipeline, self._end_of, self._clock = pipeline, end_of, clock
        parts = {name: node.part for name, node in graph.sources.items()}
        self._sources = {t: p for t, name in streams.items() if isinstance(p := parts[name], Source)}
        self._quiet: dict[PartitionId, _Quiet] = {}

    def look(self) -> None:
        """Say what has become idle, and how late it is where windows close by the clock."""
        watermarks = self._pipeline.watermarks
        for source in self._quiet.keys() - watermarks.keys():
            del self._quiet[source]
        for source, watermark in watermarks.items():
            self._look_at(source, watermark, self._sources[source.topic])

    def _look_at(self, source: PartitionId, watermark: int, part: Source) -> None:
        position, end = self._pipeline.processed[source], self._end_of(source)
        quiet = self._quiet.get(source)
        if quiet is None or quiet.position != position or end is None or position < end:
            self._quiet[source] = _Quiet(position, self._clock(), watermark=watermark)
            return
        now = self._clock()
        silent = dt.timedelta(seconds=now - quiet.since)
        if part.close_after is not None and silent >= part.close_after and quiet.watermark > BEGINNING:
            if now - quiet.told >= part.close_after.total_seconds() * _SHARE:
                quiet.told = now
                self._tell(source, quiet.watermark + silent // _MICROSECOND)
        elif silent >= part.idle_after and not quiet.idle:
            quiet.idle = True
            self._tell(source, watermark)

    def _tell(self, source: PartitionId, watermark: int) -> None:
        self._pipeline.tell_watermark(source, watermark, idle=True)
