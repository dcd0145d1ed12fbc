"""The user's own agent (``@topology.agent``) behind the sink contract.

A batch is settled when the agent's body asks for the next one. At least once: after a crash the
batches since the last commit come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from streamcore.batch import Batch
from streamcore.declaring import raised_at
from streamcore.errors import Permanent
from streamcore.graph import AgentFunction
from streamcore.sinks.direct import DirectWriter


class AgentWriter(DirectWriter):
    """Feeds the agent one batch at a time; what it raises stops the worker."""

    def __init__(self, function: AgentFunction) -> None:
        super().__init__()
        self._function = function
        self._task: asyncio.Future[object] | None = None
        self._next: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._asks = asyncio.Event()

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> object:
        await self._function(self._batches())
        return None

    async def _take(self, batch: Batch) -> None:
        await self._asked()
        self._asks.clear()
        self._next.put_nowait(batch)
        await self._asked()

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _batches(self) -> AsyncIterator[Batch]:
        while True:
            self._asks.set()
            yield await self._next.get()

    async def _asked(self) -> None:
        """Wait until the body asks for a batch; raises what it raised, or that it ended."""
        assert self._task is not None
        asks: asyncio.Future[object] = asyncio.ensure_future(self._asks.wait())
        both: list[asyncio.Future[object]] = [asks, self._task]
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if asks in done:
            return
        asks.cancel()
        name = getattr(self._function, "__name__", "agent")
        error = None if self._task.cancelled() else self._task.exception()
        raise Permanent(
            f"agent {name!r} ended" + (f" with {type(error).__name__}" if error else ""),
            where=None if error is None else raised_at(error),
            fix="an agent loops over its batches for as long as the worker runs",
        ) from error
