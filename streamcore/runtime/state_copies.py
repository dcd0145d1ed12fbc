"""Copies of snapshots on this machine: what a worker that starts again need not read from the log.

A file for each partition of a log, ``{folder}/{topic}/{partition}``::

    length, checksum, head (JSON: which log, by which declaration, as of which offset)
    length, checksum, record of the snapshot …
    0, checksum

A checksum (CRC-32) is that of all bytes up to there. The file is written aside, ``{partition}.new``, fsynced,
and renamed when all sinks have what came out before it. The log is the truth: a copy that is torn, altered
or of another log or declaration counts as none, and one that can't be written is given up with a warning.
Processes may share the folder: who writes aside holds a lock on the file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from streamcore.batch import PartitionId
from streamcore.crashpoints import crash_point
from streamcore.state.snapshot import Snapshot
from streamcore.transport.embedded_segments import sync_directory

log = logging.getLogger(__name__)
FORMAT = 1
_FRAME = struct.Struct("<II")
_ASIDE = ".new"
_WRONG = (OSError, ValueError, LookupError)
"""What reading bytes raises that are not a copy's."""


class Head(NamedTuple):
    """What a copy says of itself: the log and the declaration, and which snapshot it is."""

    format: int
    topic: str
    topic_id: str
    partition: int
    definition: str
    as_of: int
    emitted: int


@dataclass(frozen=True)
class Copies:
    """The copies in *folder*, which belongs to one topology. Nothing raises; what goes wrong is logged."""

    folder: Path

    def write(self, source: PartitionId, snapshot: Snapshot) -> CopyWriter | None:
        """Begin a copy of *snapshot*, made of the log *source*; None when it can't be written now."""
        head = Head(FORMAT, *_log(source), snapshot.definition, snapshot.as_of, snapshot.state.emitted)
        path = self._path(source.topic, source.partition)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            file = _locked(path.with_name(path.name + _ASIDE))
            if file is None:
                return None
            writer = CopyWriter(path, file)
            file.truncate(0)
        except OSError as error:
            log.warning("no copy of the state of %s: %s", source, error)
            return None
        writer.add(orjson.dumps([*head]))
        return writer

    def find(self, source: PartitionId, definition: str) -> Copy | None:
        """The copy of the state that the log *source* has led to, as *definition* declares it."""
        path = self._path(source.topic, source.partition)
        try:
            with open(path, "rb") as file:
                head = Head(*orjson.loads(next(_frames(file))))
        except FileNotFoundError:
            return None
        except (*_WRONG, TypeError) as error:
            log.warning("the copy %s is not used: %s", path, error or type(error).__name__)
            return None
        wanted = Head(FORMAT, *_log(source), definition, head.as_of, head.emitted)
        if head != wanted:
            log.warning("the copy %s is not used: it is of another log or declaration", path)
            return None
        return Copy(path, head.as_of, head.emitted)

    def remove(self, source: PartitionId) -> None:
        """Remove the copy of *source*, which is of no use."""
        with suppress(OSError):
            self._path(source.topic, source.partition).unlink()

    def keep_only(self, topics: Collection[str]) -> None:
        """Remove the copies of other topics, and what killed processes have left of any."""
        with suppress(OSError):
            for folder in self.folder.iterdir():
                for path in folder.iterdir():
                    if path.name.endswith(_ASIDE):
                        _remove_left(path)
                    elif folder.name not in topics:
                        path.unlink()

    def _path(self, topic: str, partition: int) -> Path:
        return self.folder / topic / str(partition)


@dataclass(frozen=True)
class Copy:
    """A copy whose head is right: the state as of an offset, before which ``emitted`` rows came out."""

    path: Path
    as_of: int
    emitted: int

    def records(self) -> Iterator[bytes]:
        """The records of the snapshot. ValueError or OSError where the file is torn or altered."""
        with open(self.path, "rb") as file:
            frames = _frames(file)
            next(frames)
            yield from frames


@dataclass
class CopyWriter:
    """Writes one copy. After an error it is given up: the other methods do nothing then."""

    path: Path
    _file: BinaryIO
    _sum: int = 0
    _broken: bool = field(default=False)

    def add(self, value: bytes) -> None:
        """Add a record."""
        self._write(value)

    def finish(self) -> None:
        """All records were added: make them durable. It may take a while."""
        self._write(b"")
        try:
            if not self._broken:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            self._give_up(error)
        except ValueError:  # it was dropped meanwhile
            return

    def publish(self) -> None:
        """Take the place of the copy before."""
        if self._broken:
            return
        crash_point("state_copies.before_rename")
        try:
            self._aside.rename(self.path)
            crash_point("state_copies.after_rename")
            sync_directory(self.path.parent)
        except OSError as error:
            self._give_up(error)
        else:
            self._file.close()

    def drop(self) -> None:
        """Leave the copy before where it is."""
        if not self._broken:
            self._broken = True
            with suppress(OSError):
                self._aside.unlink()
            with suppress(OSError):
                self._file.close()

    @property
    def _aside(self) -> Path:
        return self.path.with_name(self.path.name + _ASIDE)

    def _write(self, value: bytes) -> None:
        if self._broken:
            return
        size = len(value).to_bytes(4, "little")
        self._sum = zlib.crc32(value, zlib.crc32(size, self._sum))
        try:
            self._file.write(_FRAME.pack(len(value), self._sum))
            crash_point("state_copies.frame_begun")
            self._file.write(value)
        except OSError as error:
            self._give_up(error)
        crash_point("state_copies.frame_written")

    def _give_up(self, error: OSError) -> None:
        log.warning("no copy of state at %s: %s", self.path, error)
        self.drop()


def _log(source: PartitionId) -> tuple[str, str, int]:
    return source.topic, source.topic_id, source.partition


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """The head and the records of a copy. ValueError at the first byte that is wrong or missing."""
    sum = 0
    while True:
        size, told = _FRAME.unpack(_read(file, _FRAME.size))
        value = _read(file, size)
        sum = zlib.crc32(value, zlib.crc32(size.to_bytes(4, "little"), sum))
        if sum != told:
            raise ValueError("its checksum is wrong")
        if not size:
            break
        yield value
    if file.read(1):
        raise ValueError("something follows its end")


def _read(file: BinaryIO, size: int) -> bytes:
    value = file.read(size)
    if len(value) < size:
        raise ValueError("its end is missing")
    return value


def _locked(path: Path) -> BinaryIO | None:
    """*path*, made if need be, for this process alone; None when another one has it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o640), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # else it was renamed or removed meanwhile
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


def _remove_left(path: Path) -> None:
    file = _locked(path)
    if file is not None:
        path.unlink()
        file.close()
