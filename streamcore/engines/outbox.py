"""Messages on their way to a log: appended in their order, those that wait meanwhile together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from streamcore.contracts import Log, Records
from streamcore.errors import Transient


class Outbox:
    """Appends to *log*, at most *most* messages at a time; *sent* is told how many have become durable."""

    def __init__(self, log: Log, most: int, sent: Callable[[int], None]) -> None:
        self._log, self._most, self._sent = log, most, sent
        self._waiting: deque[_Sending] = deque()
        self._under_way: list[_Sending] = []
        self._task: asyncio.Task[None] | None = None
        self._ended: BaseException | None = None

    async def send(self, topic: str, value: bytes, key: bytes | None) -> None:
        """Returns when it is durable; raises what the log does, or what has ended the outbox."""
        if self._ended is not None:
            raise self._ended
        sending = _Sending(topic, value, key, asyncio.get_running_loop().create_future())
        self._waiting.append(sending)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await sending.durable

    def end(self, error: BaseException | None) -> None:
        """Append no more; who waits is told *error*, or that the engine has stopped."""
        self._ended = error or Transient(
            "the engine stopped before the message was appended", fix="send it again"
        )
        if self._task is not None:
            self._task.cancel()
        _tell([*self._under_way, *self._waiting], self._ended)
        self._waiting.clear()

    async def close(self, seconds: float) -> None:
        """Wait until all is appended, for so many *seconds*, then end."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        if self._ended is None:
            self.end(None)

    async def _run(self) -> None:
        while self._waiting:
            together = self._under_way = [self._waiting.popleft()]
            while (
                self._waiting and self._waiting[0].topic == together[0].topic and len(together) < self._most
            ):
                together.append(self._waiting.popleft())
            await self._append(together)

    async def _append(self, together: list[_Sending]) -> None:
        now = int(time.time() * 1000)
        records = Records(
            values=pa.array([one.value for one in together], pa.binary()),
            timestamps=np.full(len(together), now, np.int64),
            keys=pa.array([one.key for one in together], pa.binary()),
        )
        error: BaseException | None = None
        try:
            await (await self._log.append(together[0].topic, records))
            self._sent(len(together))
        except Exception as failed:  # noqa: BLE001 - told to each who sent
            error = failed
        _tell(together, error)


@dataclass(frozen=True, slots=True)
class _Sending:
    topic: str
    value: bytes
    key: bytes | None
    durable: asyncio.Future[None]


def _tell(sent: list[_Sending], error: BaseException | None) -> None:
    for one in sent:
        if not one.durable.done():
            one.durable.set_result(None) if error is None else one.durable.set_exception(error)
