"""Unbounded sources into the topics that the topology's workers read, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from streamcore.contracts.unbounded import UnboundedSource
from streamcore.observability.health import Health
from streamcore.observability.metrics import Metrics
from streamcore.runtime.kafka_app import topic_bounds
from streamcore.runtime.live.pumps import Pumps, check_sources
from streamcore.runtime.options import pipeline_options_of
from streamcore.runtime.worker import log_retry, served, unless
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection, probe
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog

log = logging.getLogger(__name__)


async def feed(
    topology: Topology, sources: Mapping[str, UnboundedSource], settings: Settings, stop: asyncio.Event
) -> None:
    """Feed *sources* (by stream name) until *stop* is set.

    Who fed the same source into the same topic before is fenced, and this one goes on where it was. BadConfig
    before a row is read; Permanent for missing topics, or when a source or the broker stays away.
    """
    graph = topology.freeze()
    check_sources(graph, sources)
    connection = KafkaConnection.parse(settings.broker.url)
    retries = pipeline_options_of(settings, graph.name).retries
    reaching = retries.run("reaching the broker", lambda: probe(settings.broker.url), log_retry)
    if not await unless(stop, reaching):
        return
    kafka, metrics, health = KafkaLog(connection), Metrics(), Health()
    try:
        for stream in sources:
            await topic_bounds(graph.sources[stream], kafka)
        pumps = Pumps(graph, sources, kafka, settings, metrics)
        pumps.add_checks(health)
        async with served(metrics, health, settings):
            log.info("feeding %s of %s into %s", ", ".join(sources), graph.name, connection)
            await pumps.run(stop)
    finally:
        await kafka.close()
