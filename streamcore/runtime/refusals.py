"""Dead letters of a pipeline: appended before anything passes them, and known again at a take-over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from streamcore.batch import Chunk, PartitionId, Rejects
from streamcore.contracts import Log
from streamcore.deadletter.reader import refused_since
from streamcore.deadletter.record import Origin
from streamcore.deadletter.redrive import origins
from streamcore.deadletter.writer import DeadLetterWriter
from streamcore.errors import Transient
from streamcore.passage import RowId
from streamcore.runtime.retry import Retries

log = logging.getLogger(__name__)


class Refusals:
    """The dead letters of one topology. *stream_of* names the stream of a topic, "" for others."""

    def __init__(
        self,
        log: Log,
        topology: str,
        topics: tuple[str, str],
        clock: Callable[[], float],
        retries: Retries,
        stream_of: Callable[[str], str],
    ) -> None:
        self._log, self._retries, self._stream_of = log, retries, stream_of
        self._topic, self._redrive_topic = topics
        self._letters = DeadLetterWriter(log, topology, self._topic, clock)
        self._below: dict[PartitionId, int] = {}
        """No row at this position or after it was refused before the partition was taken over."""
        self.last_error: str | None = None

    async def start(self, partitions: int) -> None:
        """Make the topic, with *partitions* partitions if it is new."""
        await self._letters.start(partitions)

    async def known(self, source: PartitionId, position: int) -> Collection[RowId]:
        """The rows of *source* at *position* or behind it that are dead letters already."""
        known = await refused_since(self._log, self._topic, source, position)
        self._below[source] = max((row.offset + 1 for row in known), default=position)
        return known

    async def append(self, chunk: Chunk, rejects: Rejects, processed: int) -> None:
        """Make *rejects* of *chunk* durable; the partition has been *processed* up to there."""
        known = origins(chunk) if chunk.source.topic == self._redrive_topic else {}
        default = Origin(self._stream_of(chunk.source.topic))
        found = [known.get(offset, default) for offset in rejects.frame["_offset"].to_list()]
        until = max(self._below.get(chunk.source, 0), processed, chunk.end)

        async def append() -> None:
            await self._letters.append(chunk, rejects, found, until=until)

        def failed(error: Transient) -> None:
            self.last_error = str(error)
            log.warning("dead letters: %s", error)

        await self._retries.run("appending dead letters", append, failed)
        self.last_error = None
