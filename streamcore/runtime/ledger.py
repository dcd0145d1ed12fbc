"""What every sink has confirmed, partition by partition: the only thing that is ever committed.

The ledger also holds the byte budget: bytes of chunks and of the rows made of them are taken when a
chunk enters and given back when all sinks have confirmed its end, so a slow sink presses back on the
source.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamcore.batch import Chunk, PartitionId


@dataclass(slots=True)
class _Entry:
    sinks: dict[str, int]
    taken: deque[tuple[int, int]] = field(default_factory=deque)
    """(end, bytes) of the chunks that entered and are not confirmed yet."""


class Ledger:
    """Confirmed positions of the partitions that this worker owns. *limit* is in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[PartitionId, _Entry] = {}
        self._bytes = 0
        self._moved = asyncio.Event()

    @property
    def unconfirmed_bytes(self) -> int:
        return self._bytes

    @property
    def full(self) -> bool:
        """True when nothing more may enter."""
        return self._bytes >= self._limit

    def open(self, source: PartitionId, sinks: Mapping[str, int]) -> None:
        """Begin with *source*: each of its sinks stands at the given position."""
        self.drop(source)
        self._entries[source] = _Entry(dict(sinks))

    def drop(self, source: PartitionId) -> None:
        """Forget *source* and give its bytes back."""
        entry = self._entries.pop(source, None)
        if entry:
            self._give_back(sum(size for _, size in entry.taken))

    def took(self, chunk: Chunk, columns: int = 0) -> None:
        """*chunk* has entered, and *columns* bytes of rows that were made of it.

        What all sinks have already, e.g. results that a state gives again at a take-over, is not held: no
        confirmation would give its bytes back.
        """
        entry = self._entries[chunk.source]
        if chunk.end <= min(entry.sinks.values()):
            return
        entry.taken.append((chunk.end, chunk.nbytes + columns))
        self._bytes += chunk.nbytes + columns

    def confirm(self, sink: str, positions: Mapping[PartitionId, int]) -> None:
        """*sink* has made everything before *positions* durable."""
        for source, position in positions.items():
            entry = self._entries.get(source)
            if entry is None or position <= entry.sinks[sink]:
                continue
            entry.sinks[sink] = position
            settled = min(entry.sinks.values())
            freed = 0
            while entry.taken and entry.taken[0][0] <= settled:
                freed += entry.taken.popleft()[1]
            self._give_back(freed)

    def sink_position(self, sink: str, source: PartitionId) -> int:
        """Where *sink* stands in *source*."""
        return self._entries[source].sinks[sink]

    def position(self, source: PartitionId) -> int | None:
        """What all sinks have confirmed of *source*, or None when it is not owned."""
        entry = self._entries.get(source)
        return min(entry.sinks.values()) if entry else None

    def positions(self) -> dict[PartitionId, int]:
        """:meth:`position` of every owned partition."""
        return {source: min(entry.sinks.values()) for source, entry in self._entries.items()}

    def laggards(self, source: PartitionId) -> list[str]:
        """The sinks that hold the commit of *source* back."""
        sinks = self._entries[source].sinks if source in self._entries else {}
        return [sink for sink, position in sinks.items() if position == min(sinks.values())]

    def stir(self) -> None:
        """Wake who waits in :meth:`moved`."""
        self._moved.set()

    async def moved(self) -> None:
        """Wait until a confirmed position moves, bytes come back, or a sink takes a batch."""
        self._moved.clear()
        await self._moved.wait()

    def _give_back(self, size: int) -> None:
        self._bytes -= size
        self._moved.set()
