"""Planted mistakes of what is made durable, and when: see :mod:`.mutants`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from streamcore.sinks import folder_storage
from streamcore.sinks.folder_storage import FolderShelf
from streamcore.transport import embedded_directory, embedded_segments
from streamcore.transport.embedded_blocks import parse
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_segments import SegmentFiles


def commit_before_fsync() -> Iterator[Any]:
    """What was appended counts as durable without an fsync."""

    async def synced(self: Broker) -> None:
        for log in self._unsynced:
            log._durable = log.end

    yield mock.patch.object(Broker, "synced", synced)


def new_segment_not_synced() -> Iterator[Any]:
    """The names of segments are left to the kernel."""
    yield mock.patch.object(embedded_segments, "sync_directory")


def commits_renamed_without_fsync() -> Iterator[Any]:
    """A group's file takes the place of the one before it before it is on the disk."""

    def write(path: Path, content: Any) -> None:
        with mock.patch.object(os, "fsync"):
            written(path, content)

    written = embedded_directory._write
    yield mock.patch.object(embedded_directory, "_write", write)


def sealed_before_outputs_are_durable() -> Iterator[Any]:
    """Files are sealed that are not on the disk yet."""

    def write_aside(self: FolderShelf, name: str, write: Callable[[BinaryIO], None]) -> None:
        path = self._seals / name
        with folder_storage.translated(path), open(path, "wb") as file:
            write(file)

    yield mock.patch.object(FolderShelf, "_write_aside", write_aside)


def any_later_block_shows_damage() -> Iterator[Any]:
    """A torn block before a whole one counts as damage, though a power loss may leave that."""

    def found(self: SegmentFiles, data: memoryview, damaged: int) -> bool:
        places = range(damaged + 1, len(data))
        return any(parse(data, at, self._seed) is not None for at in places)

    yield mock.patch.object(SegmentFiles, "_was_durable", found)


MISTAKES = (
    commit_before_fsync,
    new_segment_not_synced,
    commits_renamed_without_fsync,
    sealed_before_outputs_are_durable,
    any_later_block_shows_damage,
)
