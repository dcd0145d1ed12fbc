"""A topology over unbounded sources in one process, without any server, until it is told to stop.

Rows go into the embedded log first (``contracts/unbounded.py`` says why) and are dropped there when every
sink has them. What was not worked off at the end waits in the log for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from streamcore.contracts.unbounded import UnboundedSource
from streamcore.errors import BadConfig
from streamcore.graph import Graph
from streamcore.observability.health import Health
from streamcore.observability.metrics import Metrics
from streamcore.runtime.app import AppOptions
from streamcore.runtime.ends import Ends
from streamcore.runtime.job import Job, running
from streamcore.runtime.live.pumps import Pumps, check_sources
from streamcore.runtime.options import PipelineOptions, pipeline_options_of, streams_by_topic
from streamcore.runtime.state_logs import made_logs
from streamcore.runtime.worker import REDRIVE_CONFIG, served, start_of, unless, watch
from streamcore.settings import Settings
from streamcore.topology import Topology
from streamcore.transport.embedded_broker import RETENTION, Broker
from streamcore.transport.embedded_log import EmbeddedLog

log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 << 20
"""Of the log's files: only whole ones are deleted when their rows are in all sinks."""


async def work_live(
    topology: Topology, sources: Mapping[str, UnboundedSource], settings: Settings, stop: asyncio.Event
) -> None:
    """Run *topology* over *sources*, one for each of its streams, until *stop* is set; then drain and commit.

    BadConfig before a row is read; Permanent when a source or a sink stays away, or nothing moves any more.
    """
    with opened(topology, sources, settings) as (graph, broker):
        await work_embedded(graph, broker, sources, settings, stop)


@contextlib.contextmanager
def opened(
    topology: Topology, sources: Mapping[str, UnboundedSource], settings: Settings
) -> Iterator[tuple[Graph, Broker]]:
    """The graph and the embedded broker in its folder, all checked; the broker is closed at the end.

    BadConfig when a stream has no source, or one that does not fit it.
    """
    graph = topology.freeze()
    check_sources(graph, sources)
    if missing := [stream for stream in graph.sources if stream not in sources]:
        raise BadConfig(
            "without a broker each stream needs a source",
            where=graph.sources[missing[0]].where,
            got=f"nothing for {', '.join(missing)}",
            fix=f"add --from {missing[0]}=URI",
        )
    folder = (settings.state.dir / graph.name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    broker = Broker.open(f"embedded://{graph.name}{folder}", segment_bytes=SEGMENT_BYTES)
    try:
        yield graph, broker
    finally:
        broker.close()


async def made(
    graph: Graph, broker: Broker, settings: Settings
) -> tuple[Mapping[str, str], PipelineOptions, AppOptions]:
    """The topics of *graph* in *broker*, by the names of their streams, and how it is run on them."""
    streams = streams_by_topic(graph)
    for topic in streams:
        broker.create(topic, 1, {RETENTION: "committed"})
    log_ = EmbeddedLog(broker)
    partitions = {topic: len(await log_.bounds(topic)) for topic in streams}
    logs = await made_logs(graph, log_, streams, partitions)
    options = replace(pipeline_options_of(settings, graph.name), state_logs=logs)
    broker.create(options.redrive_topic, 1, REDRIVE_CONFIG)
    app_options = AppOptions(
        broker=broker.url,
        group=settings.group(graph.name),
        datadir=settings.state.dir / graph.name / "faust",
        start=start_of(graph),
        commit_interval=settings.runtime.commit_interval_s,
        fetch_max_bytes=settings.limits.fetch_max_bytes,
    )
    return streams, options, app_options


async def make_room(broker: Broker, job: Job, every: float) -> None:
    """While appends wait for commits, have sinks confirm what they hold back, e.g. for larger files.

    *every* so many seconds, until it is cancelled.
    """
    while True:
        await asyncio.sleep(every)
        if broker.full:
            for runner in job.pipeline.runners.values():
                runner.press()


async def work_embedded(
    graph: Graph,
    broker: Broker,
    sources: Mapping[str, UnboundedSource],
    settings: Settings,
    stop: asyncio.Event,
) -> None:
    """Run *graph* on *broker* as :func:`work_live` does. Topics that are there stay as they are, and streams
    without a source get what others append to theirs."""
    log_, metrics, health = EmbeddedLog(broker), Metrics(), Health()
    streams, options, app_options = await made(graph, broker, settings)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(served(metrics, health, settings))
        started = running(graph, streams, log_, metrics, options, app_options, 1)
        starting = asyncio.ensure_future(stack.enter_async_context(started))
        if not await unless(stop, starting):
            return
        job, pumps = starting.result(), Pumps(graph, sources, log_, settings, metrics)
        pumps.add_checks(health)
        log.info("%s works on %s", graph.name, ", ".join(s.uri for s in sources.values()) or broker.url)
        ends = Ends(log_, [*streams, *options.state_logs], settings.runtime.stall_timeout_s / 4)
        asking = asyncio.ensure_future(ends.keep_asking())
        pressing = asyncio.ensure_future(make_room(broker, job, settings.runtime.commit_interval_s))
        feeding = asyncio.ensure_future(pumps.run(stop))
        try:
            await watch(job, metrics, health, settings, stop, ends, streams)
        finally:
            stop.set()
            asking.cancel()
            await asyncio.gather(asking, feeding, return_exceptions=True)
            pressing.cancel()
            await asyncio.gather(pressing, return_exceptions=True)
        feeding.result()
