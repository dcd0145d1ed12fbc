"""Replays in runs: what came into tables and collections since the last one, and then the end.

A run is an instalment of a stream that does not end: no end marker is told, windows that are not over wait
for the rows of a later run, and states go on where they were. So in how many runs a table is read changes
nothing in what comes of it. Everything else is as for sources that are read for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TypeVar

from streamcore.batch import PartitionId
from streamcore.contracts import BoundedSource
from streamcore.contracts.unbounded import CatchingUpSource, Incremental
from streamcore.errors import BadConfig
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.progress import OnProgress, Progress, SplitProgress, Summary
from streamcore.runtime.ending import end
from streamcore.runtime.job import LOOK, Job, running
from streamcore.runtime.kafka_app import topic_bounds, topic_of
from streamcore.runtime.live.pumps import Pumps, check_sources
from streamcore.runtime.live.worker import made, make_room, opened
from streamcore.runtime.replay import ReplayOptions
from streamcore.runtime.state_logs import fed_states
from streamcore.runtime.watchdog import Watchdog
from streamcore.systems.kafka import KafkaConnection, probe
from streamcore.topology import Topology
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.kafka_log import KafkaLog

log = logging.getLogger(__name__)
T = TypeVar("T")

_SAY_EVERY = 20.0
"""Seconds between two words on why nothing comes."""


def changes_of(sources: Mapping[str, BoundedSource]) -> dict[str, CatchingUpSource]:
    """*sources* (by stream) by their changes; none where none of them is read in runs.

    BadConfig where some are and others not: those have an end, and these have none.
    """
    found = {stream: s.taken_in() for stream, s in sources.items() if isinstance(s, Incremental)}
    if found and (others := sources.keys() - found.keys()):
        whole = sorted(others)[0]
        raise BadConfig(
            "one replay reads either what is new, or all there is",
            where=f"--from {next(iter(found))}",
            got=f"{sources[whole].uri} for {whole!r}, which is read to its end",
            fix="give each a mark=, or replay them one after the other",
        )
    return found


async def catch_up(
    topology: Topology,
    sources: Mapping[str, CatchingUpSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Bring what is new in *sources*, one for each stream of *topology*, through it in this process.

    It ends when all that was there when it first looked is in the sinks, or when *stop* is set. The next run,
    also after a crash, goes on behind that. With ``options.again`` it begins with the first rows.
    BadConfig before a row is read; Permanent when a source or a sink stays away, or nothing moves any more.
    """
    stop = stop or asyncio.Event()
    with opened(topology, sources, options.settings) as (graph, broker):
        return await _work(graph, broker, sources, options, on_progress, stop)


async def _work(
    graph: Graph,
    broker: Broker,
    sources: Mapping[str, CatchingUpSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event,
) -> Summary:
    settings, kafka, metrics = options.settings, EmbeddedLog(broker), Metrics()
    streams, pipeline, app_options = await made(graph, broker, settings)
    began, topics = time.monotonic(), [*streams, pipeline.redrive_topic, *pipeline.state_logs]
    async with running(graph, streams, kafka, metrics, pipeline, app_options, 1) as job:
        pumps = Pumps(graph, sources, kafka, settings, metrics, once=True, again=options.again)
        watchdog = Watchdog(
            job.pipeline,
            metrics,
            lambda source: _ends(broker, topics).get(source),
            timeout=settings.runtime.stall_timeout_s,
            clock=time.monotonic,
            wall=time.time,
        )
        ending, waiting = asyncio.Event(), _Waiting(sources)
        feeding = asyncio.ensure_future(pumps.run(ending))
        pressing = asyncio.ensure_future(make_room(broker, job, settings.runtime.commit_interval_s))
        finished = False
        try:
            while not (feeding.done() and (finished or ending.is_set())):
                if stop.is_set():
                    ending.set()
                job.check()
                if feeding.done():
                    feeding.result()
                watchdog.look()
                waiting.look(pumps, time.monotonic())
                on_progress(_progress(job, pumps, sources, time.monotonic() - began))
                await asyncio.sleep(LOOK)
                finished = pumps.ended and _worked_off(job, graph, streams, broker, topics)
        finally:
            await end([feeding, pressing])
        feeding.result()
        await job.drain(settings.runtime.drain_timeout_s)
        done = _progress(job, pumps, sources, time.monotonic() - began)
    on_progress(done)
    return Summary(
        topology=graph.name,
        status="finished" if finished else "interrupted",
        progress=done,
        outputs=graph.targets,
        dead_letter_log=pipeline.dead_letter_topic,
        group=app_options.group,
    )


def _ends(broker: Broker, topics: list[str]) -> dict[PartitionId, int]:
    found = (broker.topic(name) for name in topics)
    return {log.source: log.end for topic in found if topic is not None for log in topic.logs}


def _worked_off(
    job: Job, graph: Graph, streams: Mapping[str, str], broker: Broker, topics: list[str]
) -> bool:
    """Whether all that is in the logs has gone to the sinks, what comes of states too."""
    processed, ledger = job.pipeline.processed, job.pipeline.ledger
    if any(processed.get(source, -1) < end for source, end in _ends(broker, topics).items()):
        return False
    # What goes to the log of a state is in that log, whose end was looked at above, when it is confirmed.
    return all(
        ledger.sink_position(node, source) >= at
        for source, at in processed.items()
        for node in fed_states(graph, streams, source.topic)
    )


def _progress(job: Job, pumps: Pumps, sources: Mapping[str, CatchingUpSource], elapsed: float) -> Progress:
    counters = job.pipeline.counters
    return Progress(
        rows_in=counters.rows_in,
        bytes_in=counters.bytes_in,
        rows_out=job.pipeline.rows_out,
        rejected=dict(counters.rejected),
        rules=dict(counters.rules),
        late=dict(counters.late),
        splits=_splits(pumps, sources),
        elapsed=elapsed,
    )


def _splits(pumps: Pumps, sources: Mapping[str, CatchingUpSource]) -> tuple[SplitProgress, ...]:
    return tuple(
        SplitProgress(stream, sources[stream].uri, rows, None) for stream, rows in pumps.rows.items()
    )


class _Waiting:
    """Says why nothing comes."""

    def __init__(self, sources: Mapping[str, CatchingUpSource]) -> None:
        self._why = "; ".join(f"{source.uri}: waiting for {source.waits_for}" for source in sources.values())
        self._rows, self._since = -1, 0.0

    def look(self, pumps: Pumps, now: float) -> None:
        """*now* in seconds, of a clock that only grows."""
        rows = sum(pumps.rows.values())
        if rows != self._rows or not pumps.waiting:
            self._rows, self._since = rows, now
        elif now - self._since >= _SAY_EVERY:
            self._since = now
            log.warning("%s", self._why)


async def feed_new(
    topology: Topology,
    sources: Mapping[str, CatchingUpSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Append what is new in *sources* (by stream) to the streams' topics on Kafka, each row once.

    It ends when all that was there when it first looked is durable in the topics, or when *stop* is set.
    Errors as of :func:`streamcore.runtime.live.feed`.
    """
    stop, settings, graph = stop or asyncio.Event(), options.settings, topology.freeze()
    check_sources(graph, sources)
    connection = KafkaConnection.parse(settings.broker.url)
    await probe(settings.broker.url)
    kafka, began = KafkaLog(connection), time.monotonic()
    try:
        for stream in sources:
            await topic_bounds(graph.sources[stream], kafka)
        pumps = Pumps(graph, sources, kafka, settings, Metrics(), once=True, again=options.again)
        waiting = _Waiting(sources)
        feeding = asyncio.ensure_future(pumps.run(stop))

        def progress() -> Progress:
            rows, elapsed = pumps.rows, time.monotonic() - began
            return Progress(
                sum(rows.values()), rows_out=rows, splits=_splits(pumps, sources), elapsed=elapsed
            )

        while not feeding.done():
            on_progress(progress())
            waiting.look(pumps, time.monotonic())
            await asyncio.wait([feeding], timeout=LOOK)
        feeding.result()
    finally:
        await kafka.close()
    on_progress(progress())
    topics = {stream: f"topic {topic_of(graph.sources[stream])} of {connection}" for stream in sources}
    return Summary(
        topology=graph.name,
        status="finished" if pumps.ended else "interrupted",
        progress=progress(),
        outputs=topics,
        dead_letter_log=settings.dead_letter_topic(graph.name),
        group=settings.group(graph.name),
    )
