"""The runs of a replay, one a stream, from wherever they stand to their end markers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streamcore.contracts import Log
from streamcore.crashpoints import crash_point
from streamcore.errors import Transient
from streamcore.progress import Progress, Rejected, SplitProgress
from streamcore.runtime.feeding.feeder import Feeder
from streamcore.runtime.feeding.marks import Mark, Marks, Written, ended, written
from streamcore.runtime.job import LOOK
from streamcore.runtime.pacing import Pacer
from streamcore.runtime.planning import StreamPlan
from streamcore.runtime.retry import Retries

log = logging.getLogger(__name__)
T = TypeVar("T")


class Runs:
    """Feeds all *plans*, each into the topic of its mark, and writes the marks of those that ended.

    ``marks``: the present mark of each stream.
    """

    def __init__(
        self,
        plans: Mapping[str, StreamPlan],
        marks: Mapping[str, Mark],
        kafka: Log,
        control: Marks,
        retries: Retries,
        max_bytes: int,
        pacer: Pacer | None,
    ) -> None:
        self._plans, self._kafka, self._control, self._pacer = plans, kafka, control, pacer
        self.marks = dict(marks)
        self._retries, self._began = retries, time.monotonic()
        threads = max(1, sum(len(plan.splits) for plan in plans.values()))
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="feeding")
        self._feeders = {
            stream: Feeder(plans[stream], mark, kafka, self._executor, max_bytes, time.time)
            for stream, mark in marks.items()
            if mark.state == "started"
        }
        self._found: dict[str, int] = {}
        """Rows that earlier processes brought in."""

    async def feed(self, stop: asyncio.Event, look: Callable[[], None]) -> bool:
        """Feed to the end; False when *stop* was set before. *look* is called several times a second.

        Raises Permanent when the broker stays away, and what reading and appending raise.
        """
        return await watching(self._feed(stop), look, stop, self._pacer)

    async def _feed(self, stop: asyncio.Event) -> bool:
        finished: bool | None = None
        while finished is None:
            finished = await self._retries.run("feeding", lambda: self._attempt(stop), _warn)
        return finished

    async def _attempt(self, stop: asyncio.Event) -> bool | None:
        """None when it failed after it had got on: another attempt has all the time again."""
        before = self._rows()
        try:
            return await self._feed_from_what_is_written(stop)
        except Transient as error:
            if self._rows() == before:
                raise
            _warn(error)
            return None

    async def _feed_from_what_is_written(self, stop: asyncio.Event) -> bool:
        found = {stream: await written(self._kafka, self.marks[stream]) for stream in self._feeders}
        for stream, feeder in self._feeders.items():
            feeder.rows = found[stream].rows - self._found.setdefault(stream, found[stream].rows)
        if self._pacer and not stop.is_set():
            self._pacer.go_on()
        if not await self._feed_all(found, stop):
            return False
        crash_point("feeding.fed")
        for stream in self._feeders:
            mark, rows = self.marks[stream], self._found[stream] + self._feeders[stream].rows
            mark = ended(mark, await self._kafka.bounds(mark.topic), rows)
            await self._control.write(mark)
            self.marks[stream] = mark
        return True

    async def _feed_all(self, found: Mapping[str, Written], stop: asyncio.Event) -> bool:
        """All splits side by side. When one fails the others end after what they have begun: nothing is
        cancelled, since a row on its way whose outcome nobody knows could come in twice.
        """
        failed = asyncio.Event()

        async def feed(stream: str, number: int) -> bool:
            try:
                feeder = self._feeders[stream]
                return await feeder.feed(number, found[stream], lambda: stop.is_set() or failed.is_set())
            except Exception:
                failed.set()
                if self._pacer:
                    self._pacer.halt()
                raise

        splits = [(s, number) for s in self._feeders for number in range(len(self._plans[s].splits))]
        results = await asyncio.gather(*(feed(*split) for split in splits), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in sorted(errors, key=lambda error: isinstance(error, Transient)):
            raise error
        return all(results)

    async def mark_done(self) -> None:
        """Remember that the runs' topics are not needed any more."""
        for stream, mark in self.marks.items():
            self.marks[stream] = dataclasses.replace(mark, state="done")
            await self._control.write(self.marks[stream])

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False)

    def _rows(self) -> int:
        return sum(feeder.rows for feeder in self._feeders.values())

    def progress(self) -> Progress:
        """What this process has brought into the topics."""
        rejected: dict[Rejected, int] = {}
        for feeder in self._feeders.values():
            for reason, rows in feeder.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + rows
        return Progress(
            rows_in=self._rows(),
            bytes_in=sum(feeder.bytes for feeder in self._feeders.values()),
            rows_out={stream: feeder.rows for stream, feeder in self._feeders.items()},
            rejected=rejected,
            splits=tuple(split for stream in self._plans for split in self._splits(stream)),
            elapsed=time.monotonic() - self._began,
        )

    def _splits(self, stream: str) -> list[SplitProgress]:
        feeder = self._feeders.get(stream)
        if feeder and self.marks[stream].state == "started":
            return feeder.splits()
        return [SplitProgress(stream, s.name, s.size, s.size) for s in self._plans[stream].splits]


async def watching(
    work: Coroutine[object, object, T],
    look: Callable[[], None],
    stop: asyncio.Event,
    pacer: Pacer | None,
) -> T:
    """The result of *work*; meanwhile *look* is called, and *stop* ends the pacer's waits."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            look()
            if stop.is_set() and pacer:
                pacer.halt()
            await asyncio.wait([task], timeout=LOOK)
        return task.result()
    finally:
        task.cancel()
        if pacer:
            pacer.halt()
        await asyncio.gather(task, return_exceptions=True)


def _warn(error: Transient) -> None:
    log.warning("%s; going on from what the topic holds", error)
