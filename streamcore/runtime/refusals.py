"""Dead letters of a pipeline: appended before anything passes them, and known again at a take-over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext

from streamcore.batch import Chunk, PartitionId, Rejects
from streamcore.contracts import Lane, Log, OwnedAppends
from streamcore.deadletter.reader import refused_since
from streamcore.deadletter.record import Origin
from streamcore.deadletter.redrive import origins
from streamcore.deadletter.writer import DeadLetterWriter
from streamcore.errors import Fenced, Transient
from streamcore.passage import RowId
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.taking_over import side_by_side

log = logging.getLogger(__name__)
_SINK = "dead letters"
"""The sink of the lanes on which owners append."""


class Refusals:
    """The dead letters of one topology. *stream_of* names the stream of a topic, "" for others.

    What a sink's server refused is appended as the owner of the source (:meth:`own`): a former owner, which
    may have stood still in between, would send the letter of a row that its heir has written. What the
    topology itself refuses the heir refuses as well.
    """

    def __init__(
        self, log: Log, topology: str, options: PipelineOptions, stream_of: Callable[[str], str]
    ) -> None:
        self._log, self._retries, self._stream_of = log, options.retries, stream_of
        self._topic, self._redrive_topic = options.dead_letter_topic, options.redrive_topic
        self._topology, self._owner = topology, options.owner
        self._letters = DeadLetterWriter(log, topology, self._topic, options.clock)
        self._owned: dict[PartitionId, _Owned] = {}
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

    async def own(self, sources: Collection[PartitionId]) -> None:
        """Become the owner of *sources*, and of no others: what a former owner appends fails from now on.

        To be called before the sinks are taken over. Whoever stands still in between and goes on when another
        one owns them can't send letters any more, and ends.
        """
        await self.close()

        async def own(source: PartitionId) -> None:
            lane = Lane(self._topology, _SINK, source, self._owner)
            owned = _Owned(self._log.owned(self._topic, lane))
            await self._retried("taking dead letters over", owned.appends.open)
            self._owned[source] = owned

        await side_by_side(own, sources)

    async def close(self) -> None:
        """Own nothing any more."""
        await self.release(list(self._owned))

    async def release(self, sources: Collection[PartitionId]) -> None:
        """Append nothing more as the owner of *sources*."""
        for source in sources:
            if (owned := self._owned.pop(source, None)) is not None:
                await owned.appends.close()

    async def append(self, chunk: Chunk, rejects: Rejects, processed: int, *, as_owner: bool = False) -> None:
        """Make *rejects* of *chunk* durable; the partition has been *processed* up to there.

        *as_owner*: Fenced when the partition has another owner by now.
        """
        known = origins(chunk) if chunk.source.topic == self._redrive_topic else {}
        default = Origin(self._stream_of(chunk.source.topic))
        found = [known.get(offset, default) for offset in rejects.frame["_offset"].to_list()]
        until = max(self._below.get(chunk.source, 0), processed, chunk.end)
        owned = self._owner_of(chunk.source) if as_owner else None
        by = None if owned is None else owned.appends
        async with nullcontext() if owned is None else owned.lock:
            append = lambda: self._letters.append(chunk, rejects, found, until=until, by=by)  # noqa: E731
            await self._retried("appending dead letters", append)

    def _owner_of(self, source: PartitionId) -> _Owned:
        if source not in self._owned:
            raise Fenced(f"{source} has left this worker", where=self._topic)
        return self._owned[source]

    async def _retried(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        def failed(error: Transient) -> None:
            self.last_error = str(error)
            log.warning("dead letters: %s", error)

        await self._retries.run(what, call, failed)
        self.last_error = None


class _Owned:
    """What one partition's owner appends by; several sinks may want to at once."""

    def __init__(self, appends: OwnedAppends) -> None:
        self.appends, self.lock = appends, asyncio.Lock()
