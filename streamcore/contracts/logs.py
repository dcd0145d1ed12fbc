"""The broker's log: records in columns, appends that one owner makes, transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamcore.batch import Int64s, PartitionId, Range, RecordChunk

Header = tuple[str, "bytes | pa.BinaryArray"]
"""A header of all records of a :class:`Records`: the same bytes for each, or one value a record."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records to append to a topic, in columns of the same length.

    ``values`` may hold nulls (tombstones). ``timestamps`` are milliseconds. ``partitions`` wins over
    the keys; without both all records go to one partition, another one each time. Keys are spread by
    murmur2 as Kafka's own clients do.
    """

    values: pa.BinaryArray
    timestamps: Int64s
    keys: pa.BinaryArray | None = None
    partitions: npt.NDArray[np.int32] | None = None
    headers: tuple[Header, ...] = ()

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Lane:
    """Whose output it is: what *sink* of *topology* makes of *source*. *owner* is for people."""

    topology: str
    sink: str
    source: PartitionId
    owner: str

    @property
    def name(self) -> str:
        """The same in each process, and no other lane's."""
        return f"{self.topology}/{self.sink}/{self.source.topic_id}/{self.source.partition}"


class Transactions(Protocol):
    """Appends of one :class:`Lane` to one topic, which take effect once, together with a position.

    One call at a time. After Transient, or a call that was broken off, what was appended since the last
    commit may be there or not: :meth:`open` again says where to go on, and whatever is before that took
    effect, whatever is not did not and never will.
    """

    async def open(self, start: int) -> int:
        """The position of the last commit; *start*, which is then stored, when there is none.

        From the moment this returns, no one else that opened the lane before can commit. Opened again,
        it raises Fenced when someone else has opened the lane meanwhile.
        """
        ...

    async def append(self, records: Records) -> None:
        """Hand *records* over, behind those of the calls before. Nobody need see them before the commit."""
        ...

    async def commit(self, position: int, records: Records | None = None) -> None:
        """Append *records*, and make all that was appended take effect with *position*; durable on return."""
        ...

    async def close(self) -> None:
        """Free connections; nothing is committed."""
        ...


class OwnedAppends(Protocol):
    """Appends of one :class:`Lane` to one topic, by whoever opened the lane last. One call at a time."""

    async def open(self) -> None:
        """From the moment this returns, nothing more gets in of those who opened the lane before.

        Transient when it is not known: to be called again.
        """
        ...

    async def append(self, records: Records) -> None:
        """Durable on return; Fenced when someone else has opened the lane: then nothing more gets in.

        After Transient they are in or not: who appends them again may have them twice.
        """
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


class Log(Protocol):
    """The topics of the broker that a worker runs on, Kafka or embedded, outside of consumer groups.

    Sinks append to it, dead letters live in it, the command line reads it.
    """

    async def bounds(self, topic: str, *, settled: bool = False) -> Mapping[int, Range]:
        """First and end offset of each partition; empty when the topic does not exist.

        *settled*: wait for transactions that are open, behind which committed records are not seen yet.
        """
        ...

    async def topics(self) -> Sequence[str]:
        """The names of all topics that can be seen, sorted."""
        ...

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Make the topic unless it exists; True when it was made. *config* is Kafka's topic configuration."""
        ...

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        """Hand *records* over, in order per partition; waits while too many bytes are on their way.

        The returned awaitable ends when all of them are durable. It raises Transient when the
        outcome is unknown or failed: the caller must not let a position pass them; Permanent when
        trying again cannot help (topic missing, record too large, not authorised). When this call
        itself raises, nothing of *records* is on its way. Look at the outcomes of earlier appends before
        the next one, or it may overtake one that failed.
        """
        ...

    def transactions(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> Transactions:
        """Output of *lane* to *topic* that takes effect exactly once. No I/O here.

        *crash_point* is called with "topic.before_commit" when all rows of a commit are sent.
        """
        ...

    def owned(self, topic: str, lane: Lane) -> OwnedAppends:
        """Appends of *lane* to *topic* that a former owner can't make. No I/O here."""
        ...

    def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        """The records in ``[start, end)`` in order, chunk by chunk; ends at *end* or the log's end.

        What it gives is durable: no crash takes it back.
        """
        ...

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """Forget the records before the offset *below*, as far as the storage allows.

        What is left begins at the first of :meth:`bounds`. Transient and Permanent as for append.
        """
        ...

    async def close(self) -> None: ...
