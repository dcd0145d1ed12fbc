"""A worker of pipelines: an orchestrator that takes runs up, with metrics and health over HTTP.

On Kafka a topology brings it commands and events, and its group shares the runs.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from streamcore.observability.health import Health
from streamcore.observability.http import Exposition
from streamcore.observability.metrics import Metrics
from streamcore.pipelines.metrics import PipelineMetrics
from streamcore.pipelines.orchestrator import LEASE_SECONDS, PipelineOrchestrator
from streamcore.pipelines.share import Share
from streamcore.pipelines.streams.commands import Commands
from streamcore.pipelines.streams.events import PipelineEvent
from streamcore.pipelines.streams.outbox import Publisher
from streamcore.pipelines.streams.sharing import Waking
from streamcore.runtime.worker import served
from streamcore.runtime.worker import work as work_topology
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog


async def work(settings: Settings, stop: asyncio.Event, lease_seconds: float = LEASE_SECONDS) -> None:
    """Execute runs until *stop* is set, on Kafka as a member of a group.

    Raises what :class:`PipelineOrchestrator` and :func:`streamcore.runtime.worker.work` do.
    """
    if settings.broker.url != "embedded":
        await _work_on_kafka(settings, stop, lease_seconds)
        return
    async with (
        PipelineOrchestrator(settings=settings, lease_seconds=lease_seconds) as orchestrator,
        PipelineMetrics(store=orchestrator.store, settings=settings) as metrics,
        served(Metrics(), Health(), settings, also=metrics.exposition()),
    ):
        await stop.wait()


async def _work_on_kafka(settings: Settings, stop: asyncio.Event, lease_seconds: float) -> None:
    name, share = settings.pipelines.name, Share()
    commands, events = f"{name}.commands", f"{name}.events"
    partitions, log = settings.pipelines.partitions, KafkaLog(KafkaConnection.parse(settings.broker.url))
    publisher = partial(Publisher, log=log, topic=events, partitions=partitions)
    try:
        async with (
            PipelineOrchestrator(
                settings=settings, share=share, leaders=[publisher], lease_seconds=lease_seconds
            ) as orchestrator,
            PipelineMetrics(store=orchestrator.store, settings=settings) as metrics,
        ):
            topology = Topology(name)
            asked = topology.stream("commands", {"value": "binary"}, format="raw", topic=commands)
            asked.to(Commands(orchestrator.store, lambda: round(time.time() * 1e6)))
            told = topology.stream("events", PipelineEvent, key="run_id", topic=events)
            told.filter("kind = 'run.queued'").to(Waking(events, share, orchestrator.look))
            also: Exposition = metrics.exposition()
            made = {commands: partitions, events: partitions}
            await work_topology(topology, settings, stop, made=made, also=also)
    finally:
        await log.close()
