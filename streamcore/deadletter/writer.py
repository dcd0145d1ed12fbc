"""Appending dead letters, before the position that passes them is confirmed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamcore.batch import Chunk, Rejects
from streamcore.contracts import Log, OwnedAppends
from streamcore.deadletter.record import Origin, to_records

TOPIC_CONFIG = {"retention.ms": "-1", "cleanup.policy": "delete"}
"""A dead letter stays until a human deals with it."""


class DeadLetterWriter:
    """Appends the rejects of one topology to its dead-letter topic.

    ``clock`` gives seconds since the epoch.
    """

    def __init__(self, log: Log, topology: str, topic: str, clock: Callable[[], float]) -> None:
        self._log, self._topology, self._topic, self._clock = log, topology, topic, clock
        self._partitions = 0

    async def start(self, partitions: int) -> None:
        """Make the topic with *partitions* partitions unless it is there. Transient or Permanent."""
        await self._log.create(self._topic, partitions, TOPIC_CONFIG)
        self._partitions = len(await self._log.bounds(self._topic)) or partitions

    async def append(
        self,
        chunk: Chunk,
        rejects: Rejects,
        origins: Sequence[Origin],
        *,
        until: int,
        by: OwnedAppends | None = None,
    ) -> None:
        """Append *rejects* of *chunk* and return when they are durable. Transient or Permanent.

        *origins* has one entry a reject; no row of the source at *until* or after it was refused yet.
        *by*: as the owner of the source; Fenced when it is another one by now.
        """
        records = to_records(
            self._topology,
            chunk,
            rejects,
            origins,
            until=until,
            now=self._clock(),
            partitions=self._partitions,
        )
        if by is not None:
            await by.append(records)
        else:
            await (await self._log.append(self._topic, records))
