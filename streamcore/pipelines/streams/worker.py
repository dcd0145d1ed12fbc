"""A worker of pipelines on Kafka: an orchestrator, and a topology that brings it commands and events."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from streamcore.pipelines.orchestrator import LEASE_SECONDS, PipelineOrchestrator
from streamcore.pipelines.share import Share
from streamcore.pipelines.streams.commands import Commands
from streamcore.pipelines.streams.events import PipelineEvent
from streamcore.pipelines.streams.outbox import Publisher
from streamcore.pipelines.streams.sharing import Waking
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog


async def work_on_kafka(
    settings: Settings, stop: asyncio.Event, lease_seconds: float = LEASE_SECONDS
) -> None:
    """Execute runs as a member of the group until *stop* is set.

    Raises what :class:`PipelineOrchestrator` and :func:`streamcore.runtime.worker.work` do.
    """
    name, share = settings.pipelines.name, Share()
    commands, events = f"{name}.commands", f"{name}.events"
    partitions, log = settings.pipelines.partitions, KafkaLog(KafkaConnection.parse(settings.broker.url))
    publisher = partial(Publisher, log=log, topic=events, partitions=partitions)
    try:
        async with PipelineOrchestrator(
            settings=settings, share=share, leaders=[publisher], lease_seconds=lease_seconds
        ) as orchestrator:
            topology = Topology(name)
            asked = topology.stream("commands", {"value": "binary"}, format="raw", topic=commands)
            asked.to(Commands(orchestrator.store, lambda: round(time.time() * 1e6)))
            told = topology.stream("events", PipelineEvent, key="run_id", topic=events)
            told.filter("kind = 'run.queued'").to(Waking(events, share, orchestrator.look))
            await work(topology, settings, stop, {commands: partitions, events: partitions})
    finally:
        await log.close()
