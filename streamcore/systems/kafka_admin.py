"""Consumer groups as the cluster knows them, and deleting topics, by aiokafka's admin client."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NoError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streamcore.systems.kafka import KafkaConnection, translate


class KafkaAdmin:
    """An open admin connection: ``async with KafkaAdmin(connection) as admin``.

    All methods raise Transient when the cluster does not answer and Permanent when it refuses.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._client = AIOKafkaAdminClient(**connection.client_options())

    async def __aenter__(self) -> KafkaAdmin:
        try:
            await self._client.start()
        except KafkaError as error:
            await self._client.close()
            raise translate(error, str(self._connection)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """What *group* has committed, by topic and partition; nothing for a group that is not known."""
        try:
            found = await self._client.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:
            return {}  # the cluster has never had a group; it makes the topic of commits now
        except KafkaError as error:
            raise translate(error, f"group {group}") from error
        return {(tp.topic, tp.partition): commit.offset for tp, commit in found.items()}

    async def members(self, group: str) -> int:
        """How many workers are in *group* now."""
        try:
            (response,) = await self._client.describe_consumer_groups([group])
        except GroupCoordinatorNotAvailableError:
            return 0
        except KafkaError as error:
            raise translate(error, f"group {group}") from error
        _, _, _, _, _, members, *_ = response.groups[0]
        return len(members)

    async def delete(self, topics: list[str]) -> None:
        """Delete *topics*; those that do not exist are gone already."""
        try:
            response = await self._client.delete_topics(topics)
        except KafkaError as error:
            raise translate(error, ", ".join(topics)) from error
        for topic, code in response.topic_error_codes:
            kind = for_code(code)
            if kind not in (NoError, UnknownTopicOrPartitionError):
                raise translate(kind(), topic)
