"""A partition's blocks in append-only segment files, safe against a crash at any byte.

A segment is named after its first offset and starts with a head that holds the *sync mark*: how many
of its bytes are known to be durable. ``sync()`` fsyncs and then moves the mark; the mark itself
reaches the disk at some later time, so it may lag but never lies. Recovery walks the frames:

- an unsound frame below the mark, in a segment that is not the last, or where a later frame says that all
  was durable, is corruption: Permanent, for going on would lose records without a word;
- anything else unsound is the torn tail of appends that were never acknowledged: it is cut off. Of those a
  power loss may leave any part, also a later frame without an earlier one.

A new segment is written aside and renamed, so a visible one always has its head. After a failed
fsync nothing is trusted any more (the kernel may have dropped the pages): all later writes fail.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from streamcore.batch import PartitionId
from streamcore.errors import Permanent
from streamcore.transport.embedded_blocks import MAGIC, Frame, decode, encode, parse, seed

SEGMENT_BYTES: Final = 64 << 20
_MAGIC: Final = b"sclog\x00\x00\x01"
_MARK = struct.Struct("<qI")  # durable bytes, crc32 of them
HEAD: Final = 32


class File(Protocol):
    """What the log asks of a file; tests pass one that fails."""

    def size(self) -> int: ...
    def read(self, size: int, at: int) -> bytes: ...
    def write(self, data: bytes | memoryview, at: int) -> None: ...
    def sync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class OsFile:
    """A real file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, size: int, at: int) -> bytes:
        parts = []
        while size and (part := os.pread(self._fd, size, at)):
            parts.append(part)
            size, at = size - len(part), at + len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data: bytes | memoryview, at: int) -> None:
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._fd, rest, at)
            rest, at = rest[done:], at + done

    def sync(self) -> None:
        os.fsync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        os.close(self._fd)


def sync_directory(path: Path) -> None:
    """Make renames in and removals from *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make *path*, and what is missing above it, durably: each new name is fsynced where it stands.

    Also one that is there: a process that was killed may have left it to the kernel.
    """
    if not path.parent.exists():
        make_directory(path.parent)
    path.mkdir(mode=0o750, exist_ok=True)
    sync_directory(path.parent)


@dataclass(slots=True)
class _Segment:
    base: int
    path: Path
    file: File
    size: int = HEAD
    synced: int = 0
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """First offset of a block -> its place and size in the file."""


def _mark(size: int) -> bytes:
    return _MARK.pack(size, zlib.crc32(size.to_bytes(8, "little")))


def _read_mark(head: bytes) -> int:
    """The durable size; 0 (nothing known) when the mark itself was torn."""
    size, crc = _MARK.unpack_from(head, len(_MAGIC))
    return size if zlib.crc32(size.to_bytes(8, "little", signed=True)) == crc else 0


class SegmentFiles:
    """The segments of one partition in *directory*.

    Appends and reads come from one thread; ``sync`` may run in another. *open_file* opens or makes a
    file. Opening recovers: Permanent when records that were durable are damaged or gone.
    """

    def __init__(
        self,
        directory: Path,
        source: PartitionId,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        open_file: Callable[[Path], File] = OsFile,
    ) -> None:
        self._directory, self._source, self._segment_bytes = directory, source, segment_bytes
        self._open_file, self._seed = open_file, seed(source)
        self._segments: list[_Segment] = []
        self._lock = threading.Lock()
        self._broken: str | None = None
        self._renamed = False
        make_directory(directory)

    def recover(self) -> Iterator[Frame]:
        """Open what is there; yields the frames of all sound blocks in their order."""
        for aside in self._directory.glob("*.new"):
            aside.unlink()
        paths = sorted(self._directory.glob("*.log"))
        self._renamed = bool(paths)  # perhaps by a process that was killed before its fsync
        for path in paths:
            base, last = int(path.stem), path == paths[-1]
            if self._segments and (end := self._end_of(self._segments[-1])) != base:
                raise self._corrupt(path, f"it starts at {base}, the segment before it ends at {end}")
            segment = _Segment(base, path, self._open_file(path))
            self._segments.append(segment)
            yield from self._walk(segment, last)

    def _walk(self, segment: _Segment, last: bool) -> Iterator[Frame]:
        data = memoryview(segment.file.read(segment.file.size(), 0))
        if len(data) < HEAD or bytes(data[: len(_MAGIC)]) != _MAGIC:
            raise self._corrupt(segment.path, "the head of the segment is damaged")
        mark, at, offset = _read_mark(bytes(data[:HEAD])), HEAD, segment.base
        while frame := parse(data, at, self._seed):
            if frame.first != offset:
                raise self._corrupt(segment.path, f"byte {at} holds offset {frame.first}, not {offset}")
            segment.places[offset] = (at, frame.size)
            at, offset = at + frame.size, offset + frame.count
            yield frame
        if at < len(data) and (not last or self._was_durable(data, at)):
            raise self._corrupt(segment.path, f"the block at byte {at}, offset {offset}, is damaged")
        if at < mark:
            raise self._corrupt(segment.path, f"durable records from offset {offset} are damaged or gone")
        segment.size, segment.synced = at, min(mark, at)
        if at < len(data):
            segment.file.truncate(at)
            segment.file.sync()  # or a later power loss puts what was cut off behind other records

    def _was_durable(self, data: memoryview, damaged: int) -> bool:
        """Whether a frame behind the byte *damaged* was written when that byte was durable."""
        raw, at = data.obj, damaged
        assert isinstance(raw, bytes)
        while (at := raw.find(MAGIC, at + 1)) >= 0:
            if (frame := parse(data, at, self._seed)) and at - frame.unsynced > damaged:
                return True
        return False

    def append(self, first: int, batch: pa.RecordBatch) -> int:
        """Write *batch* as the block at offset *first*; returns its size in bytes.

        Permanent when the disk is full or fails; the log then still ends before the block.
        """
        self._check()
        if not self._segments or self._segments[-1].size >= self._segment_bytes:
            self._roll(first)
        segment = self._segments[-1]
        head, payload = encode(batch, first, self._seed, segment.size - max(segment.synced, HEAD))
        size = len(head) + len(payload)
        try:
            segment.file.write(head, segment.size)
            segment.file.write(payload, segment.size + len(head))
        except OSError as error:
            self._take_back(segment)
            raise self._failed("appending", error) from error
        segment.places[first] = (segment.size, size)
        segment.size += size
        return size

    def _take_back(self, segment: _Segment) -> None:
        try:
            segment.file.truncate(segment.size)
        except OSError as error:
            self._broken = f"a failed append could not be taken back: {os.strerror(error.errno or errno.EIO)}"

    def _roll(self, base: int) -> None:
        if self._segments:
            self.sync()
        path = self._directory / f"{base:020d}.log"
        aside = path.with_suffix(".new")
        try:
            file = self._open_file(aside)
            file.truncate(0)
            file.write((_MAGIC + _mark(0)).ljust(HEAD, b"\0"), 0)
            file.sync()
            aside.rename(path)
        except OSError as error:
            raise self._failed("starting a segment", error) from error
        self._renamed = True
        self._segments.append(_Segment(base, path, file))

    def read(self, first: int) -> pa.RecordBatch:
        """The block at offset *first*; Permanent when the disk gives other bytes than were written."""
        segment = self._segments[bisect_right(self._segments, first, key=lambda s: s.base) - 1]
        at, size = segment.places[first]
        data = segment.file.read(size, at)
        if parse(memoryview(data), 0, self._seed) is None:
            raise self._corrupt(segment.path, f"the block at byte {at}, offset {first}, is damaged")
        return decode(data)

    def sync(self) -> None:
        """Make all appended blocks durable. Permanent when that fails, then and ever after."""
        with self._lock:
            self._check()
            if not self._segments:
                return
            segment = self._segments[-1]
            size = segment.size
            if size <= segment.synced:
                return
            try:
                segment.file.sync()
                if self._renamed:
                    self._renamed = False
                    sync_directory(self._directory)
                segment.file.write(_mark(size), len(_MAGIC))
            except OSError as error:
                self._broken = f"fsync failed: {os.strerror(error.errno or errno.EIO)}"
                raise self._failed("fsync", error) from error
            segment.synced = size

    def drop(self, below: int) -> None:
        """Remove the segments whose records all lie below the offset *below*; never the last one."""
        while len(self._segments) > 1 and self._segments[1].base <= below:
            gone = self._segments.pop(0)
            gone.file.close()
            gone.path.unlink()

    @property
    def base(self) -> int:
        """The first offset that is kept."""
        return self._segments[0].base if self._segments else 0

    def close(self) -> None:
        """Close the files; does not sync."""
        with self._lock:
            for segment in self._segments:
                segment.file.close()
            self._segments = []
            self._broken = "it is closed"

    def _end_of(self, segment: _Segment) -> int:
        if not segment.places:
            return segment.base
        first = max(segment.places)
        at, size = segment.places[first]
        frame = parse(memoryview(segment.file.read(size, at)), 0, self._seed)
        assert frame is not None
        return first + frame.count

    def _check(self) -> None:
        if self._broken is not None:
            raise Permanent(f"the log can't be written: {self._broken}", where=str(self._source))

    def _corrupt(self, path: Path, what: str) -> Permanent:
        return Permanent(
            f"the log of {self._source} is corrupt: {what}",
            where=str(path),
            fix="restore the file from a backup, or delete the topic to begin anew",
        )

    def _failed(self, doing: str, error: OSError) -> Permanent:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Permanent(
            f"{doing} failed: {os.strerror(error.errno or errno.EIO)}",
            where=str(self._directory),
            fix="free space on the disk and start again" if full else "check the disk and start again",
        )
