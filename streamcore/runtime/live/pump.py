"""One unbounded source into one topic until it is told to stop: polled in a thread, appended in the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from streamcore.contracts.unbounded import (
    CatchingUpReader,
    Intake,
    Polled,
    UnboundedReader,
    UnboundedSource,
)
from streamcore.crashpoints import crash_point
from streamcore.errors import Transient
from streamcore.runtime.live.records import RecordMaker
from streamcore.runtime.retry import Retries

log = logging.getLogger(__name__)
T = TypeVar("T")


class Pump:
    """Brings what *source* gives through *maker* into *intake*; *clock* gives seconds since 1970.

    ``rows`` counts what this process appended. ``opened``: it has reached both ends once. ``last_error`` is
    of an attempt that failed; None while it works. *once*: it ends when a reader has caught up (``at_end``).
    *again*: it begins with the source's first row, whatever was read; who feeds next goes on from there.
    """

    def __init__(
        self,
        stream: str,
        source: UnboundedSource,
        maker: RecordMaker,
        intake: Intake,
        executor: Executor,
        *,
        max_bytes: int,
        clock: Callable[[], float],
        retries: Retries,
        once: bool = False,
        again: bool = False,
    ) -> None:
        self.stream, self.source, self._maker, self._intake = stream, source, maker, intake
        self._executor, self._max_bytes, self._clock, self._retries = executor, max_bytes, clock, retries
        self._once, self._again = once, again
        self.rows = 0
        self.opened = False
        self.last_error: str | None = None
        self.at_end = False
        self._got_on = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop* is set, or the run has ended; what was polled then is appended before it returns.

        Transient errors are tried again; Permanent when nothing but those came for as long as the retries
        say, and whatever else the source and the broker raise.
        """
        try:
            while not (stop.is_set() or self.at_end):
                await self._retries.run(f"feeding {self.stream!r}", lambda: self._attempt(stop), self._warn)
        finally:
            await self._intake.close()

    async def _attempt(self, stop: asyncio.Event) -> None:
        """Feed from what is durable on. Returns, to have all the time again, if it had got on."""
        self._got_on = False
        try:
            await self._feed(stop)
        except Transient as error:
            if not self._got_on:
                raise
            self._warn(error)

    async def _feed(self, stop: asyncio.Event) -> None:
        await self._maker.start()
        bookmark = await self._begin()
        reader = await self._in_thread(lambda: self.source.open(bookmark))
        try:
            if bookmark:
                await self._in_thread(lambda: reader.forget(bookmark))
            self.opened = True
            while not stop.is_set():
                polled = await self._in_thread(lambda: reader.poll(self._max_bytes, self._clock()))
                if polled is not None:
                    await self._take(reader, polled)
                self._got_on, self.last_error = True, None
                if self._once and _caught_up(reader):
                    self.at_end = True
                    return
                if polled is None:
                    await _pause(stop, self.source.interval)
        finally:
            await self._in_thread(reader.close)

    async def _begin(self) -> bytes:
        """The bookmark to go on behind."""
        durable = await self._intake.open()
        if self._again and durable:
            # Durable before a row is: from here on the bookmark tells what was read, also when the reply to
            # an append is lost, and the last page may well have the bookmark of before.
            await self._intake.keep(b"")
            durable = b""
        self._again = False
        return durable

    async def _take(self, reader: UnboundedReader, polled: Polled) -> None:
        now = int(self._clock() * 1000)
        records = await self._in_thread(lambda: self._maker.make(polled.parts, now))
        if records is not None:
            await self._intake.append(records, polled.bookmark)
            self.rows += len(records)
        elif polled.keep:
            await self._intake.keep(polled.bookmark)
        crash_point("live.appended")
        await self._in_thread(lambda: reader.forget(polled.bookmark))

    def _warn(self, error: Transient) -> None:
        self.last_error = str(error)
        log.warning("feeding %r: %s; going on behind what was appended", self.stream, error)

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, call)


def _caught_up(reader: UnboundedReader) -> bool:
    return isinstance(reader, CatchingUpReader) and reader.caught_up


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
