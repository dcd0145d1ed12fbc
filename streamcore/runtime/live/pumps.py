"""All unbounded sources of one topology: checked before anything is read, run side by side, told of."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from streamcore.batch import PartitionId
from streamcore.contracts import Lane
from streamcore.contracts.unbounded import Intakes, UnboundedSource
from streamcore.crashpoints import crash_point
from streamcore.errors import BadConfig, did_you_mean
from streamcore.graph import Graph, Source
from streamcore.observability.health import Health
from streamcore.observability.metrics import Metrics
from streamcore.runtime.live.pump import Pump
from streamcore.runtime.live.records import RecordMaker, check_fits
from streamcore.runtime.options import pipeline_options_of
from streamcore.settings import Settings

log = logging.getLogger(__name__)

TELL_EVERY = 10.0
"""Seconds between two lines of the log."""
_LOOK = 0.5
_MOST_BYTES = 1 << 20
"""Of one poll: what is appended at once, and read again after a crash."""


def check_sources(graph: Graph, sources: Mapping[str, UnboundedSource]) -> None:
    """BadConfig unless *sources* names streams of *graph* and fits them."""
    for stream, source in sources.items():
        if stream not in graph.sources:
            raise BadConfig(
                f"topology {graph.name!r} has no such stream",
                got=stream,
                allowed=list(graph.sources),
                fix=did_you_mean(stream, graph.sources),
            )
        check_fits(graph.sources[stream], source)


class Pumps:
    """Feeds *sources* (by stream, checked) into the topics of their streams, by way of *intakes*.

    *once*: up to what is there, of sources that know when that is (``contracts.unbounded.CatchingUpSource``).
    *again*: from their first rows, whatever was read before.
    """

    def __init__(
        self,
        graph: Graph,
        sources: Mapping[str, UnboundedSource],
        intakes: Intakes,
        settings: Settings,
        metrics: Metrics,
        *,
        once: bool = False,
        again: bool = False,
    ) -> None:
        self._graph, self._metrics = graph, metrics
        options = pipeline_options_of(settings, graph.name)
        self._executor = ThreadPoolExecutor(max(1, len(sources)), thread_name_prefix="feeding")
        self._pumps = []
        for stream, source in sources.items():
            part = graph.sources[stream].part
            assert isinstance(part, Source)
            lane = Lane(graph.name, f"feed/{stream}", _lane_source(part, source), options.owner)
            pump = Pump(
                stream,
                source,
                RecordMaker(part),
                intakes.intake(part.topic, lane, crash_point),
                self._executor,
                max_bytes=min(settings.limits.fetch_max_bytes, _MOST_BYTES),
                clock=time.time,
                retries=options.retries,
                once=once,
                again=again,
            )
            self._pumps.append(pump)
        self._told: dict[str, int] = {}

    @property
    def rows(self) -> dict[str, int]:
        """What this process has appended, by stream."""
        return {pump.stream: pump.rows for pump in self._pumps}

    @property
    def ended(self) -> bool:
        """Whether all have come to their ends, *once*."""
        return all(pump.at_end for pump in self._pumps)

    @property
    def waiting(self) -> bool:
        """Whether one is at work, and has not come to its end."""
        return any(_problem(pump) is None and not pump.at_end for pump in self._pumps)

    def add_checks(self, health: Health) -> None:
        """Ready is who has reached every source and what it feeds."""
        for pump in self._pumps:
            health.add(f"feeding {pump.stream}", partial(_problem, pump))

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop* is set, which the first failure does too; then it is raised. *once*: or to the end."""
        telling = asyncio.create_task(self._tell())
        results = await asyncio.gather(
            *(_stopping(pump, stop) for pump in self._pumps), return_exceptions=True
        )
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        self._count()
        self._executor.shutdown(wait=False)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _tell(self) -> None:
        told = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK)
            self._count()
            if time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                log.info("feeding", extra={"topology": self._graph.name, "rows": self.rows})

    def _count(self) -> None:
        for stream, rows in self.rows.items():
            self._metrics.rows_fed.labels(self._graph.name, stream).inc(rows - self._told.get(stream, 0))
            self._told[stream] = rows


def _lane_source(part: Source, source: UnboundedSource) -> PartitionId:
    """What is fed, as the source of a lane: another table is another lane, with a bookmark of its own."""
    identity = hashlib.sha256(source.identity().encode()).hexdigest()[:24]
    return PartitionId(part.topic, 0, f"unbounded/{identity}")


def _problem(pump: Pump) -> str | None:
    if pump.last_error:
        return pump.last_error
    return None if pump.opened else "not reached yet"


async def _stopping(pump: Pump, stop: asyncio.Event) -> None:
    try:
        await pump.run(stop)
    except BaseException:
        stop.set()
        raise
