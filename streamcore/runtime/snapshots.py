"""Writes the state of owned partitions into their logs now and then, and drops what lies before it.

What goes to the log may be copied to this machine's disk on the way (:mod:`.state_copies`).
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

    snapshot: Snapshot
    copy: CopyWriter | None
    writing: asyncio.Task[bool]


class Snapshots:
    """Snapshots of :class:`KeptState`, each in the background: a state's frames never change.

    A partition gets one when its log has grown by *every* bytes, and by twice its state. The log is dropped
    up to a snapshot when all sinks have what came out before it: nobody needs to make that again. It is then
    that its copy, if there are *copies*, replaces the one before.
    """

    def __init__(
        self, log: Log, every: int, clock: Callable[[], float], copies: Copies | None = None
    ) -> None:
        self._log, self._every, self._clock, self._copies = log, every, clock, copies
        self._written: dict[PartitionId, _Written] = {}

    def look(self, source: PartitionId, kept: KeptState, end: int) -> None:
        """Begin a snapshot of *kept*, which has what is before *end* in its log *source*, if it is due."""
        if source in self._written or not kept.knows or kept.since_snapshot < self._every:
            return
        if kept.since_snapshot < _TIMES_STATE * kept.task.nbytes:
            return
        kept.since_snapshot = 0
        snapshot = kept.task.snapshot(end)
        copy = None if self._copies is None else self._copies.write(source, snapshot)
        writing = asyncio.create_task(self._write(source, snapshot, copy), name=f"snapshot of {source}")
        self._written[source] = _Written(snapshot, copy, writing)

    async def trim(self, source: PartitionId, settled: int) -> None:
        """Drop what lies before the snapshot of *source*, once all sinks have what entries before it gave.

        *settled*: up to where they have it. Calls for one partition follow each other.
        """
        written = self._written.get(source)
        if written is None or not written.writing.done():
            return
        as_of = written.snapshot.as_of
        if written.writing.cancelled() or not written.writing.result():
            del self._written[source]
            _drop(written)
        elif settled >= as_of:
            del self._written[source]
            if written.copy is not None:
                await asyncio.to_thread(written.copy.publish)
            crash_point("snapshots.before_trim")
            try:
                await self._log.trim(source.topic, source.partition, as_of)
            except StreamcoreError as error:
                log.warning("state %s: the log before %s is not dropped: %s", source, as_of, error)

    async def stop(self) -> None:
        """Break off what is being written: readers leave a snapshot out that is not complete."""
        broken_off = list(self._written.values())
        self._written.clear()
        for written in broken_off:
            written.writing.cancel()
        await asyncio.gather(*(written.writing for written in broken_off), return_exceptions=True)
        for written in broken_off:
            _drop(written)

    async def _write(self, source: PartitionId, snapshot: Snapshot, copy: CopyWriter | None) -> bool:
        """Whether *snapshot* is in the log, all of it."""
        id, size = uuid4().hex, 0
        try:
            for value in snapshot.records(id, RECORD_BYTES):
                stamp = np.array([int(self._clock() * 1000)], np.int64)
                partition = np.array([source.partition], np.int32)
                one = Records(pa.array([value], pa.binary()), stamp, partitions=partition)
                await (await self._log.append(source.topic, one))
                crash_point("snapshots.part_written")
                size += len(value)
                if copy is not None:
                    copy.add(value)
            if copy is not None:
                await asyncio.to_thread(copy.finish)
        except StreamcoreError as error:
            log.warning("state %s: no snapshot: %s", source, error)
            return False
        log.info("state %s: snapshot as of %d, %d bytes", source, snapshot.as_of, size)
        return True


def _drop(written: _Written) -> None:
    if written.copy is not None:
        written.copy.drop()
