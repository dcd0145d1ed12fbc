"""The small chunks of one fetch, handed out together, and how the next fetch waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from faust.types import TP

from streamcore.batch import Chunk

GROUP_BYTES = 1 << 20
"""Chunks of one fetch are handed out together up to this size."""
HAND_OVER_SECONDS = 0.05
"""How long the next fetch waits for the work on a small one."""


class ChunkGroup:
    """Chunks of one fetch and topic, of one or more partitions, each partition's in order.

    Who works on them calls :meth:`done` when nothing of them is left to do. When they are few, the next
    fetch waits for that (but for a limited time): what arrives meanwhile makes it larger, and so
    cheaper a row, and no row waits in a queue of the worker.
    """

    __slots__ = ("_done", "_waiting", "awaited", "chunks", "nbytes")

    def __init__(self, *, awaited: bool) -> None:
        self.chunks: list[Chunk] = []
        self.nbytes = 0
        self.awaited = awaited
        """Whether the next fetch waits for :meth:`done`."""
        self._done = False
        self._waiting: asyncio.Future[None] | None = None

    def add(self, chunk: Chunk) -> None:
        """Add the next chunk of its partition."""
        self.chunks.append(chunk)
        self.nbytes += chunk.nbytes

    def done(self) -> None:
        """The work on all chunks has ended."""
        self._done = True
        if self._waiting is not None:
            _wake(self._waiting)

    async def wait(self, until: float) -> None:
        """Wait for :meth:`done`, until the loop's time is *until* at most; one task only may wait."""
        if self._done:
            return
        # A future and a timer: asyncio's and mode's own ways make tasks, which is felt where rows are few.
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_at(until, _wake, self._waiting)
        try:
            await self._waiting
        finally:
            timer.cancel()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def is_little(fetched: Mapping[TP, Sequence[object]]) -> bool:
    """Whether *fetched* is so small a fetch that the next one had better wait until its work is done."""
    sizes = [
        record.nbytes if isinstance(record, Chunk) else GROUP_BYTES for r in fetched.values() for record in r
    ]
    return 0 < sum(sizes) < GROUP_BYTES
