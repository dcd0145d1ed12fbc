"""The directory of an on-disk embedded broker: its lock, topics' meta data, groups' offsets.

    DIR/lock                                  flock of the process that has it open
    DIR/topics/NAME/meta                      id, partition count, configuration
    DIR/topics/NAME/bookmarks                 of lanes that feed it, without rows (embedded_intake)
    DIR/topics/NAME/PARTITION/OFFSET.log      see embedded_segments
    DIR/groups/GROUP                          committed offsets, each with its topic's id

``meta``, ``bookmarks`` and group files are JSON behind a checksum, written aside, fsynced, renamed.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import orjson

from streamcore.batch import PartitionId
from streamcore.errors import BadConfig, Permanent
from streamcore.locked_file import InUse, locked
from streamcore.transport.embedded_segments import make_directory, sync_directory

Kept: TypeAlias = "tuple[bytes, bytes]"
"""The bookmark of an append, and one behind it that was kept without rows."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def check_topic_name(topic: str) -> None:
    """BadConfig unless *topic* is a name that Kafka would take, and so a safe file name."""
    if not _NAME.fullmatch(topic) or topic in (".", ".."):
        raise BadConfig(
            "not a topic name",
            got=topic,
            allowed=["1 to 249 letters, digits, '.', '_' and '-'"],
        )


@dataclass(frozen=True, slots=True)
class TopicMeta:
    """What is remembered of a topic beside its records."""

    topic_id: str
    partitions: int
    config: Mapping[str, str]


class Directory:
    """An open, locked directory. BadConfig when it can't be used, Permanent when its files are damaged."""

    def __init__(self, path: Path) -> None:
        self._path, self._topics, self._groups = path, path / "topics", path / "groups"
        try:
            for part in (path, self._topics, self._groups):
                make_directory(part)
            self._lock = locked(path / "lock")
        except InUse as used:
            raise BadConfig(
                f"the log directory is in use by process {used.pid}",
                where=str(path),
                fix="stop that process, or use another directory",
            ) from None
        except OSError as error:
            raise BadConfig(
                f"the log directory can't be opened: {os.strerror(error.errno or errno.EIO)}", where=str(path)
            ) from error
        for leftover in self._topics.glob("*~"):  # half made or half deleted
            shutil.rmtree(leftover)
        for part in (self._topics, self._groups):
            sync_directory(part)  # a process that was killed may have left its last names to the kernel

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)

    def topics(self) -> Iterator[tuple[str, TopicMeta]]:
        """All topics, by name."""
        for folder in sorted(self._topics.iterdir()):
            meta = _read(folder / "meta")
            yield folder.name, TopicMeta(meta["id"], meta["partitions"], meta["config"])

    def partition(self, topic: str, partition: int) -> Path:
        """The folder of a partition's segments."""
        return self._topics / topic / str(partition)

    def create(self, topic: str, meta: TopicMeta) -> None:
        """Make the topic durable."""
        aside = self._topics / f"{topic}~"
        aside.mkdir(mode=0o750)
        content = {"id": meta.topic_id, "partitions": meta.partitions, "config": dict(meta.config)}
        _write(aside / "meta", content)
        aside.rename(self._topics / topic)
        sync_directory(self._topics)

    def delete(self, topic: str) -> None:
        """Delete the topic; its commits stay, so that their id betrays a new topic of the same name."""
        aside = self._topics / f"{uuid.uuid4()}~"
        (self._topics / topic).rename(aside)
        sync_directory(self._topics)
        shutil.rmtree(aside)

    def kept(self, topic: str) -> dict[str, Kept]:
        """The bookmarks that are kept beside *topic*, by the lane."""
        path = self._topics / topic / "bookmarks"
        found = _read(path) if path.exists() else {}
        return {
            lane: (base64.b64decode(after), base64.b64decode(mark)) for lane, (after, mark) in found.items()
        }

    def write_kept(self, topic: str, kept: Mapping[str, Kept]) -> None:
        """Replace those of *topic*; durable on return."""
        _write(self._topics / topic / "bookmarks", {lane: _texts(one) for lane, one in kept.items()})

    def commits(self) -> dict[str, dict[PartitionId, int]]:
        """The committed offsets of all groups."""
        return {
            unquote(file.name): {PartitionId(t, p, i): offset for t, p, i, offset in _read(file)["offsets"]}
            for file in sorted(self._groups.iterdir())
            if file.suffix != ".new"
        }

    def write_commits(self, group: str, offsets: Mapping[PartitionId, int]) -> None:
        """Replace the committed offsets of *group*; durable on return."""
        name = quote(group, safe="").replace(".", "%2E")
        _write(self._groups / name, {"offsets": [[*source, offset] for source, offset in offsets.items()]})


def _texts(kept: Kept) -> list[str]:
    return [base64.b64encode(mark).decode() for mark in kept]


def _write(path: Path, content: Mapping[str, object]) -> None:
    body = orjson.dumps(content)
    aside = path.with_name(path.name + ".new")
    try:
        with open(aside, "wb") as file:
            file.write(b"%08x\n" % zlib.crc32(body) + body)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise Permanent(
            f"writing failed: {os.strerror(error.errno or errno.EIO)}",
            where=str(path),
            fix="free space on the disk or repair it, then start again",
        ) from error


def _read(path: Path) -> Any:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise Permanent(
            f"reading failed: {os.strerror(error.errno or errno.EIO)}", where=str(path)
        ) from error
    if head != b"%08x" % zlib.crc32(body):
        raise Permanent("the file is damaged", where=str(path), fix="restore it from a backup")
    return orjson.loads(body)
