"""Topic ids by our own Metadata request (v12, Kafka 3.1), which aiokafka does not have.

A topic that was deleted and made again has the same name and another id: positions of the old one
mean nothing in it. The id of a topic for :class:`streamcore.batch.PartitionId` is
``cluster id/topic uuid``.

The wire format is KIP-516's Metadata, https://kafka.apache.org/protocol#The_Messages_Metadata.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streamcore.errors import Permanent
from streamcore.systems.kafka import translate

_NO_ID = uuid.UUID(int=0)


class _Uuid:
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_TEXT = CompactString("utf-8")


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics: list[tuple[uuid.UUID, str, dict[int, bytes]]] = [
            (_NO_ID, topic, {}) for topic in sorted(topics)
        ]

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, {})


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the cluster knows it now; ``topic_id`` as in :class:`streamcore.batch.PartitionId`."""

    topic_id: str
    partitions: tuple[int, ...]
    has_leaders: bool


async def describe_topics(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, TopicDescription]:
    """Those of *topics* that exist, asked over *client*'s connections.

    Permanent when a topic may not be described or the broker is older than Kafka 3.1; Transient when
    no broker answers.
    """
    where = ", ".join(sorted(topics))
    try:
        response = await client.send(client.get_random_node(), _TopicIds(topics))
    except NotImplementedError as error:  # aiokafka: no version in common
        fix = "use Kafka 3.1 or later"
        raise Permanent("the broker can't tell topic ids", where=where, fix=fix) from error
    except (KafkaError, OSError) as error:
        raise translate(error, where) from error
    found: dict[str, TopicDescription] = {}
    for error_code, name, topic_id, _, partitions, *_ in response.topics:
        error_type = for_code(error_code)
        if error_type is UnknownTopicOrPartitionError:
            continue
        if error_type not in (NoError, LeaderNotAvailableError):
            raise translate(error_type(), name)
        found[name] = TopicDescription(
            f"{response.cluster_id}/{topic_id}",
            tuple(sorted(number for _, number, *_ in partitions)),
            all(leader >= 0 for _, _, leader, *_ in partitions),
        )
    return found


async def topic_ids(client: AIOKafkaClient, topics: Collection[str]) -> Mapping[str, str]:
    """The id of each of *topics*; Permanent when one does not exist, and as :func:`describe_topics`."""
    found = await describe_topics(client, topics)
    for topic in sorted(topics):
        if topic not in found:
            raise Permanent(f"topic {topic} does not exist", fix="create it, or correct its name")
    return {topic: described.topic_id for topic, described in found.items()}
