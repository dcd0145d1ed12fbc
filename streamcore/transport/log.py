"""A partition's log: records in order at dense offsets, in memory or in segment files.

Records are appended in blocks (:mod:`.embedded_blocks`) and read as chunks that may start and end
inside a block. On disk an append is durable after the next ``sync()``; see :mod:`.embedded_segments`
for what a crash leaves. The log knows no asyncio, no Faust and no groups.
"""

from __future__ import annotations

from bisect import bisect_right

import pyarrow as pa

from streamcore.batch import PartitionId
from streamcore.errors import TopicChanged
from streamcore.transport.embedded_blocks import ROW_BYTES, LogChunk, cut
from streamcore.transport.embedded_segments import SegmentFiles


class PartitionLog:
    """The log of *source*, in *files* or, without them, in memory.

    ``first`` is the oldest offset that is kept, ``end`` the next one to be given, ``nbytes`` what the
    kept blocks take in memory or on disk. What lies before ``durable`` is on the disk for good.
    """

    def __init__(self, source: PartitionId, files: SegmentFiles | None = None) -> None:
        self.source = source
        self.first = self.end = self.nbytes = 0
        self._files = files
        self._memory: dict[int, pa.RecordBatch] = {}
        self._firsts: list[int] = []
        self._sizes: list[int] = []
        self._durable = 0
        if files is not None:
            try:
                self._recover(files)
                self.sync()  # a process that was killed may have left it to the kernel
            except BaseException:
                files.close()
                raise

    def _recover(self, files: SegmentFiles) -> None:
        for frame in files.recover():
            self._firsts.append(frame.first)
            self._sizes.append(frame.size)
            self.end = frame.first + frame.count
        self.first = files.base
        self.end = max(self.end, self.first)
        self.nbytes = sum(self._sizes)

    @property
    def durable(self) -> int:
        """The end of what even a power loss leaves; in memory, of everything."""
        return self.end if self._files is None else self._durable

    def append(self, batch: pa.RecordBatch, *, whole: bool = False) -> int:
        """Add the records of *batch* (columns of ``embedded_blocks.SCHEMA``); returns the first one's offset.

        Permanent when the disk refuses; the blocks before the one that failed stay. *whole*: it is one block,
        of which a crash leaves all or nothing.
        """
        start = self.end
        for block in (batch,) if whole else cut(batch):
            if self._files is None:
                size = block.nbytes + ROW_BYTES
                self._memory[self.end] = block
            else:
                size = self._files.append(self.end, block)
            self._firsts.append(self.end)
            self._sizes.append(size)
            self.nbytes += size
            self.end += block.num_rows
        return start

    def read(self, position: int, max_bytes: int, end: int | None = None) -> LogChunk | None:
        """The records from *position* up to *end* or about *max_bytes*, whichever comes first.

        At least one record; None at the log's end. TopicChanged when *position* is not kept any more.
        """
        end = self.end if end is None else min(end, self.end)
        if position >= end:
            return None
        if position < self.first:
            raise TopicChanged(
                "the position is older than the oldest record that is kept",
                where=f"{self.source}/{position}",
                got=position,
                allowed=[f"{self.first} to {self.end}"],
            )
        at, here, left = bisect_right(self._firsts, position) - 1, position, max_bytes
        parts: list[pa.RecordBatch] = []
        while here < end and (left > 0 or not parts) and at < len(self._firsts):
            first, size = self._firsts[at], self._sizes[at]
            if parts and size > left:
                break
            block = self._memory[first] if self._files is None else self._files.read(first)
            part = block.slice(here - first, min(end - first, block.num_rows) - (here - first))
            if not parts and size > max_bytes:
                part = next(iter(cut(part, max_bytes)))
            parts.append(part)
            here, left, at = here + part.num_rows, left - size, at + 1
            if here < first + block.num_rows:
                break
        return LogChunk(self.source, position, parts)

    def drop(self, below: int) -> None:
        """Forget records below the offset *below*, as far as whole blocks or whole segments allow.

        On disk the last block stays, whatever happens: it may say how far an intake is.
        """
        if self._files is not None:
            self._files.drop(min(below, self._firsts[-1] if self._firsts else below))
            below = self._files.base
        gone = bisect_right(self._firsts, below) - 1 if below < self.end else len(self._firsts)
        if gone <= 0:
            return
        for first in self._firsts[:gone]:
            self._memory.pop(first, None)
        self.nbytes -= sum(self._sizes[:gone])
        del self._firsts[:gone], self._sizes[:gone]
        self.first = self._firsts[0] if self._firsts else self.end

    def sync(self) -> None:
        """Make all that was appended durable; may be called from another thread. Nothing to do in memory."""
        if self._files is not None:
            end = self.end
            self._files.sync()
            self._durable = end

    def close(self) -> None:
        """Free files and memory; does not sync."""
        if self._files is not None:
            self._files.close()
        self._memory.clear()
