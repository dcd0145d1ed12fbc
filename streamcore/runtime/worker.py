"""A Kafka consumer worker: one member of the topology's group, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal

from faust.types import TP

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.errors import BadConfig, StreamcoreError, Transient
from streamcore.graph import Graph, Source
from streamcore.observability.health import Health
from streamcore.observability.http import Exposition, serving
from streamcore.observability.logs import configure
from streamcore.observability.metrics import Metrics
from streamcore.runtime.ends import Ends
from streamcore.runtime.idleness import Idleness
from streamcore.runtime.job import LOOK, Job, running
from streamcore.runtime.kafka_app import kafka_app_options, topic_bounds, topic_of
from streamcore.runtime.options import (
    REDRIVE_SUFFIX,
    PipelineOptions,
    pipeline_options_of,
    streams_by_topic,
)
from streamcore.runtime.retry import Retries
from streamcore.runtime.signals import stop_on_signals
from streamcore.runtime.state_copies import Copies
from streamcore.runtime.state_http import StateEndpoints, state_endpoints
from streamcore.runtime.state_logs import StateLog, made_logs
from streamcore.runtime.watchdog import Watchdog
from streamcore.settings import Settings
from streamcore.sinks.topic import APPEND_TIME
from streamcore.systems.kafka import KafkaConnection, probe
from streamcore.systems.kafka_admin import KafkaAdmin
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog

log = logging.getLogger(__name__)

EXIT_GRACE = 5.0
"""Seconds until the process ends even if something hangs, once its work is over and all is closed."""
REDRIVE_CONFIG = {"retention.ms": "-1"}


def run_until_told(settings: Settings, work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run *work*, which ends when its event is set, until SIGTERM or Ctrl-C; returns 0 when it ended well.

    Raises what it raises; the process then ends within a while even if something hangs.
    """
    configure(level=settings.log.level, format=settings.log.format)

    async def main() -> None:
        # In the loop: its end waits for all tasks, also for those that ignore that they are cancelled.
        try:
            await work(stop_on_signals())
        except StreamcoreError as error:
            exit_soon(error.exit_code, f"error: {error}")
            raise
        except BaseException as error:
            exit_soon(1, f"error: {type(error).__name__}: {error}")
            raise
        exit_soon(0)

    asyncio.run(main())
    return 0


async def work(
    topology: Topology,
    settings: Settings,
    stop: asyncio.Event,
    *,
    made: Mapping[str, int] | None = None,
    also: Exposition | None = None,
) -> None:
    """Work on the topology's Kafka topics until *stop* is set, then drain, commit and leave the group.

    *made*: topics that are made with so many partitions unless they are there. *also*: see :func:`served`.

    Raises BadConfig, Permanent (also from the watchdog) or TopicChanged; the caller ends the process
    with the error's exit code.
    """
    graph = topology.freeze()
    connection = KafkaConnection.parse(settings.broker.url)
    retries = Retries(settings.retry.initial_s, settings.retry.max_s, settings.retry.give_up_after_s)
    reaching = retries.run("reaching the broker", lambda: probe(settings.broker.url), log_retry)
    if not await unless(stop, reaching):
        return
    kafka_log = KafkaLog(connection)
    try:
        for topic, count in (made or {}).items():
            await kafka_log.create(topic, count, APPEND_TIME)
        partitions = await _partitions(graph, kafka_log)
        await kafka_log.create(graph.name + REDRIVE_SUFFIX, 1, REDRIVE_CONFIG)
        await _work(graph, kafka_log, connection, settings, stop, partitions, also)
    finally:
        await kafka_log.close()


def exit_soon(code: int, last_words: str = "") -> None:
    """End the process with *code* in EXIT_GRACE seconds, even if a task or a thread hangs.

    Then nobody else tells why, so *last_words* go to the standard error.
    """

    def leave() -> None:
        if last_words:
            print(last_words, file=sys.stderr, flush=True)
        os._exit(code)

    timer = threading.Timer(EXIT_GRACE, leave)
    timer.daemon = True
    timer.start()


async def _partitions(graph: Graph, kafka_log: Log) -> dict[str, int]:
    """How many partitions the source topics have, all of which must exist."""
    nodes = graph.sources.values()
    return {topic_of(node): len(await topic_bounds(node, kafka_log)) for node in nodes}


async def _work(
    graph: Graph,
    kafka_log: Log,
    connection: KafkaConnection,
    settings: Settings,
    stop: asyncio.Event,
    partitions: Mapping[str, int],
    also: Exposition | None,
) -> None:
    metrics, health = Metrics(), Health()
    streams = streams_by_topic(graph)
    logs = await made_logs(graph, kafka_log, streams, partitions)
    options = _with_states(pipeline_options_of(settings, graph.name), graph.name, connection, settings, logs)
    metrics.worker.info({"topology": graph.name, "owner": options.owner})
    states = state_endpoints(graph, logs, settings)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(served(metrics, health, settings, states, also))
        app_options = kafka_app_options(
            settings,
            connection,
            graph.name,
            settings.group(graph.name),
            start=start_of(graph),
            instance_id=settings.broker.instance_id,
            url=None if states is None else states.url,
        )
        most = max(partitions.values())
        started = running(graph, streams, kafka_log, metrics, options, app_options, most)
        starting = asyncio.ensure_future(stack.enter_async_context(started))
        if not await unless(stop, starting):
            return
        job = starting.result()
        if states is not None:
            states.job = job
        log.info("worker of %s: group %s, owner %s", graph.name, app_options.group, options.owner)
        ends = Ends(kafka_log, [*streams, options.redrive_topic, *logs], settings.runtime.stall_timeout_s / 4)
        asking = asyncio.ensure_future(ends.keep_asking())
        try:
            await watch(job, metrics, health, settings, stop, ends, streams)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


def _with_states(
    options: PipelineOptions,
    topology: str,
    connection: KafkaConnection,
    settings: Settings,
    logs: Mapping[str, StateLog],
) -> PipelineOptions:
    """*options* with the logs of state and what is kept beside them."""

    async def commits() -> Mapping[tuple[str, int], int]:
        async with KafkaAdmin(connection) as admin:
            return await admin.committed(settings.group(topology))

    copies = Copies(settings.state.dir / topology / "snapshots") if settings.state.copies and logs else None
    stands_by = settings.state.standbys > 0 and logs
    return replace(options, state_logs=logs, copies=copies, commits=commits if stands_by else None)


async def watch(
    job: Job,
    metrics: Metrics,
    health: Health,
    settings: Settings,
    stop: asyncio.Event,
    ends: Ends,
    streams: Mapping[str, str],
) -> None:
    """Look at *job* until *stop* is set, then drain it. Permanent when it does not move."""

    def end_of(source: PartitionId) -> int | None:
        fetched: int | None = job.app.consumer.highwater(TP(source.topic, source.partition))
        return max((end for end in (fetched, ends.of(source)) if end is not None), default=None)

    watchdog = Watchdog(
        job.pipeline,
        metrics,
        end_of,
        timeout=settings.runtime.stall_timeout_s,
        clock=time.monotonic,
        wall=time.time,
    )
    idleness = Idleness(job.pipeline.graph, job.pipeline, streams, end_of, time.monotonic)
    health.add("assigned", lambda: None if job.pipeline.owned() else "no partition is assigned yet")
    health.add("recovered", lambda: watchdog.recovering)
    health.add("moving", lambda: watchdog.stalled)
    while not stop.is_set():
        job.check()
        watchdog.look()
        idleness.look()
        await _any_of(stop, LOOK * 5)
    await job.drain(settings.runtime.drain_timeout_s)


async def unless(stop: asyncio.Event, starting: Awaitable[object]) -> bool:
    """Wait for *starting*; False, and it is cancelled, when *stop* is set before it is done."""
    work = asyncio.ensure_future(starting)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return True
        log.info("stopped before it had started")
        return False
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)


async def _any_of(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def start_of(graph: Graph) -> Literal["earliest", "latest"]:
    """Where a group without positions begins; BadConfig when the streams say different things."""
    starts = {node.part.start for node in graph.sources.values() if isinstance(node.part, Source)}
    if len(starts) > 1:
        raise BadConfig(
            "the streams of one topology must start alike",
            got=sorted(starts),
            fix="declare the same start= for all, or make two topologies",
        )
    return starts.pop()


@contextlib.asynccontextmanager
async def served(
    metrics: Metrics,
    health: Health,
    settings: Settings,
    states: StateEndpoints | None = None,
    also: Exposition | None = None,
) -> AsyncIterator[None]:
    """Metrics and health over HTTP while the context is open, unless the port is 0.

    *also*: more metrics, in Prometheus' text format.
    """
    if not settings.http.port:
        yield
        return
    more = [] if states is None else states.endpoints()
    at = settings.http
    async with serving(metrics, health, host=at.host, port=at.port, more=more, also=also) as address:
        log.info("metrics and health at %s%s", address, "" if states is None else ", state at /state")
        yield


def log_retry(error: Transient) -> None:
    """Say that *error* does not end it yet."""
    log.warning("%s; trying again", error)
