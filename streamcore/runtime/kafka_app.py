"""What everything that runs on Kafka's topics shares: the app's options, and that its topics exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from yarl import URL

from streamcore.batch import Range
from streamcore.contracts import Log
from streamcore.errors import Permanent
from streamcore.graph import Node, Source
from streamcore.runtime.app import AppOptions
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka import faust_options


def kafka_app_options(
    settings: Settings,
    connection: KafkaConnection,
    topology: str,
    group: str,
    *,
    start: Literal["earliest", "latest"],
    instance_id: str | None = None,
    url: str | None = None,
) -> AppOptions:
    """How an app of *topology* joins *group* on the cluster at *connection*; *url*: see AppOptions."""
    faust = faust_options(connection)
    return AppOptions(
        broker=cast("list[URL]", faust["broker"]),
        credentials=faust.get("broker_credentials"),
        group=group,
        datadir=settings.state.dir / topology / "faust",
        start=start,
        instance_id=instance_id,
        commit_interval=settings.runtime.commit_interval_s,
        fetch_max_bytes=settings.limits.fetch_max_bytes,
        fetch_min_bytes=settings.kafka.fetch_min_bytes,
        fetch_max_wait=settings.kafka.fetch_max_wait_s,
        session_timeout=settings.kafka.session_timeout_s,
        url=url,
        standbys=settings.state.standbys,
    )


def topic_of(stream: Node) -> str:
    """The topic that *stream* reads."""
    assert isinstance(stream.part, Source)
    return stream.part.topic


async def topic_bounds(stream: Node, log: Log) -> Mapping[int, Range]:
    """First and end offset of each partition of the topic that *stream* reads; Permanent without it."""
    assert isinstance(stream.part, Source)
    topic = topic_of(stream)
    bounds = await log.bounds(topic)
    if not bounds:
        raise Permanent(
            f"stream {stream.part.name!r}: there is no topic {topic!r}",
            where=stream.where,
            fix=f"make it: kafka-topics.sh --create --topic {topic} --partitions 4",
        )
    return bounds
