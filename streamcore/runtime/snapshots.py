"""Writes the state of owned partitions into their logs now and then, and drops what lies before it.

Behind each snapshot in the log the state is copied to this machine's disk, if that is asked for
(:mod:`.state_copies`): as it is when the snapshot's own records have been read, which need not be read then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import pyarrow as pa

from streamcore.batch import PartitionId
from streamcore.contracts import Log, Records
from streamcore.crashpoints import crash_point
from streamcore.errors import StreamcoreError
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_copies import Copies, CopyWriter
from streamcore.runtime.state_logs import RECORD_BYTES
from streamcore.state.snapshot import Snapshot

log = logging.getLogger(__name__)
_TIMES_STATE = 2
"""A snapshot is written when the log has grown by so many times the state: what it costs is in proportion."""


@dataclass(slots=True)
class _Written:
    """A snapshot that is being written, or waits until all sinks have what came out before it."""

    as_of: int
    writing: asyncio.Task[int | None]
    """Gives an offset that all of it lies before; None when it could not be written."""


@dataclass(slots=True)
class _Copied:
    """A copy that is being written, or waits until all sinks have what came out before it."""

    as_of: int
    drops: int
    """What the log may be dropped up to when it is seen."""
    file: CopyWriter
    writing: asyncio.Task[None]


class Snapshots:
    """Snapshots of :class:`KeptState`, each in the background: a state's frames never change.

    A partition gets one when its log has grown by *every* bytes, and by twice its state. The log is dropped
    up to a snapshot when all sinks have what came out before it: nobody needs to make that again. If there
    are *copies*, the state is copied before that, and replaces the copy before in the same way.
    """

    def __init__(
        self, log: Log, every: int, clock: Callable[[], float], copies: Copies | None = None
    ) -> None:
        self._log, self._every, self._clock, self._copies = log, every, clock, copies
        self._written: dict[PartitionId, _Written] = {}
        self._due: dict[PartitionId, tuple[int, int]] = {}
        """Where the log ends behind a snapshot: what is before it is to be copied; and its ``as_of``."""
        self._droppable: dict[PartitionId, int] = {}
        """Up to where logs may be dropped."""
        self._copied: dict[PartitionId, _Copied] = {}

    def look(self, source: PartitionId, kept: KeptState, end: int) -> None:
        """Begin a snapshot of *kept*, which has what is before *end* in its log *source*, if it is due."""
        behind, as_of = self._due.get(source, (end + 1, 0))
        if end >= behind and source not in self._copied:
            del self._due[source]
            self._copy(source, kept.task.snapshot(end), as_of)
        if source in self._written or not kept.knows or kept.since_snapshot < self._every:
            return
        if kept.recovery is not None and kept.recovery.records_left:
            return  # what is still to be read may hold one as of later: readers take the first in the log
        if kept.since_snapshot < _TIMES_STATE * kept.task.nbytes:
            return
        kept.since_snapshot = 0
        snapshot = kept.task.snapshot(end)
        writing = asyncio.create_task(self._write(source, snapshot), name=f"snapshot of {source}")
        self._written[source] = _Written(end, writing)

    async def trim(self, source: PartitionId, settled: int) -> None:
        """Drop what lies before the snapshot of *source*, once all sinks have what entries before it gave.

        *settled*: up to where they have it. Calls for one partition follow each other.
        """
        copied, written = self._copied.get(source), self._written.get(source)
        if copied is not None and copied.writing.done() and settled >= copied.as_of:
            del self._copied[source]
            await asyncio.to_thread(copied.file.publish if _is_whole(copied.writing) else copied.file.drop)
            self._droppable[source] = copied.drops
        if written is not None and written.writing.done():
            end = None if written.writing.cancelled() else written.writing.result()
            if end is None:
                del self._written[source]
            elif settled >= written.as_of:
                del self._written[source]
                self._complete(source, written.as_of, end)
        if (below := self._droppable.pop(source, None)) is not None:
            await self._drop(source, below)

    def _complete(self, source: PartitionId, as_of: int, end: int) -> None:
        """A snapshot is there: what is before it is dropped, or first copied, so that there is no time in
        which the log does not continue the copy before."""
        if self._copies is None:
            self._droppable[source] = as_of
        else:
            self._due[source] = (end, as_of)

    async def _drop(self, source: PartitionId, below: int) -> None:
        crash_point("snapshots.before_trim")
        try:
            await self._log.trim(source.topic, source.partition, below)
        except StreamcoreError as error:
            log.warning("state %s: the log before %s is not dropped: %s", source, below, error)

    async def stop(self) -> None:
        """Break off what is being written: readers leave a snapshot out that is not complete."""
        broken_off: list[asyncio.Task[object]] = [written.writing for written in self._written.values()]
        broken_off += [copied.writing for copied in self._copied.values()]
        files = [copied.file for copied in self._copied.values()]
        self._written.clear()
        self._copied.clear()
        self._due.clear()
        self._droppable.clear()
        for writing in broken_off:
            writing.cancel()
        await asyncio.gather(*broken_off, return_exceptions=True)
        for file in files:
            file.drop()

    def _copy(self, source: PartitionId, snapshot: Snapshot, drops: int) -> None:
        """Begin a copy of *snapshot*, behind which the log may be dropped up to *drops*."""
        file = None if self._copies is None else self._copies.write(source, snapshot)
        if file is not None:
            writing = asyncio.create_task(_write_copy(file, snapshot), name=f"copy of {source}")
            self._copied[source] = _Copied(snapshot.as_of, drops, file, writing)
        else:
            self._droppable[source] = drops

    async def _write(self, source: PartitionId, snapshot: Snapshot) -> int | None:
        """When *snapshot* is in the log, all of it, an offset from which a copy need not have it read."""
        id, size = uuid4().hex, 0
        try:
            for value in snapshot.records(id, RECORD_BYTES):
                stamp = np.array([int(self._clock() * 1000)], np.int64)
                partition = np.array([source.partition], np.int32)
                one = Records(pa.array([value], pa.binary()), stamp, partitions=partition)
                await (await self._log.append(source.topic, one))
                crash_point("snapshots.part_written")
                size += len(value)
            if self._copies is None:
                end = snapshot.as_of
            else:
                end = (await self._log.bounds(source.topic))[source.partition].end
        except StreamcoreError as error:
            log.warning("state %s: no snapshot: %s", source, error)
            return None
        log.info("state %s: snapshot as of %d, %d bytes", source, snapshot.as_of, size)
        return end


def _is_whole(writing: asyncio.Task[None]) -> bool:
    return not writing.cancelled() and writing.exception() is None


async def _write_copy(file: CopyWriter, snapshot: Snapshot) -> None:
    for value in snapshot.records("copy", RECORD_BYTES):
        file.add(value)
        await asyncio.sleep(0)  # others get their turn
    await asyncio.to_thread(file.finish)
