"""A folder as the storage of a file sink: hidden files, link(2) and rename(2), each name made durable.

Outputs wait beside the seal that names them, as ``.START-TURN.0``, ``.1``, …; a seal is created by link(2),
which fails when the name exists, and outputs are renamed to their places. NFS is supported as far as
link(2) and rename(2) are atomic there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import polars as pl

from streamcore.errors import Permanent
from streamcore.sinks.storage import SEALS, Output, Staged, Waiting

_PATH_LIMIT = 4095
"""Linux's, in bytes."""


@dataclass(frozen=True)
class FolderStorage:
    """The folder at *path*, which is made when it is missing; *shown* is how the user wrote it."""

    path: Path
    shown: str = ""

    @property
    def longest(self) -> int:
        return _PATH_LIMIT - len(os.fsencode(self.path.absolute())) - 1

    def at(self, path: str) -> str:
        return str(self.path / path)

    def shelf(self, stream: str, partition: int, owner: str) -> FolderShelf:
        return FolderShelf(self.path, self.path / SEALS / stream / f"{partition:05d}", owner)

    def reach(self) -> None:
        check_writable(self.path)

    def prepare(self, owner: str) -> None:
        """Make the folder and try what the seals stand on: fsync and hard links."""
        seals = self.path.absolute() / SEALS
        make_folder(seals, seals.parent)
        probe, link = (
            seals / f".probe-{os.getpid()}-{quote(owner, safe='')[:100]}{end}" for end in ("", ".link")
        )
        try:
            with translated(probe):
                probe.write_bytes(b"streamcore")
            fsync(probe)
            try:
                os.link(probe, link)
            except OSError as error:
                raise Permanent(
                    "this file system has no hard links, which keep two workers from writing the same rows",
                    where=str(self.path),
                    got=error.strerror,
                    fix="choose a folder on another file system",
                ) from None
        finally:
            for path in (probe, link):
                path.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Permanent unless *folder* can be written to, or made."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fix = "let this user write there, or name another folder"
        raise Permanent("this folder can't be written to", where=str(folder), got=str(there), fix=fix)


class FolderShelf:
    """The seals of a partition in the folder *seals*, and its outputs below *top*."""

    def __init__(self, top: Path, seals: Path, owner: str) -> None:
        self._top, self._seals = top, seals
        self._mine = hashlib.sha256(owner.encode()).hexdigest()[:12]
        self._durable = {top}
        """Folders whose names are durable: of *top* that is seen to in :meth:`make`."""

    def make(self) -> None:
        make_folder(self._seals, self._top)

    def last(self, near: int) -> str | None:
        return max((name for name in self._listed() if not name.startswith(".")), default=None)

    def _listed(self) -> list[str]:
        with translated(self._seals):
            return sorted(os.listdir(self._seals))

    def has(self, name: str) -> bool:
        return (self._seals / name).exists()

    def read(self, name: str) -> bytes:
        with translated(self._seals / name):
            return (self._seals / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        def write(file: BinaryIO) -> None:
            file.write(content)

        aside = self._seals / f".{name}.seal.{self._mine}"
        self._write_aside(aside.name, write)
        with translated(aside):
            try:
                os.link(aside, self._seals / name)
            except FileExistsError:
                return self.read(name) == content
            finally:
                aside.unlink(missing_ok=True)
        fsync(self._seals)
        return True

    def stage(self, name: str, outputs: Sequence[Output]) -> list[Staged]:
        staged = []
        for number, output in enumerate(outputs):
            aside = f".{name}.{number}"
            self._write_aside(aside, output.write)
            staged.append(Staged(output.path, aside))
        fsync(self._seals)
        return staged

    def _write_aside(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        path = self._seals / name
        try:
            with translated(path), open(path, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        except Permanent:  # a full disk: give the room back
            path.unlink(missing_ok=True)
            raise

    def publish(self, staged: Sequence[Staged]) -> None:
        """What is not waiting has been renamed before; its reader may have taken it away since."""
        folders = set()
        for path, aside in staged:
            target = self._top / path
            if target.parent not in self._durable:
                make_folder(target.parent, self._top)
                self._durable.add(target.parent)
            with translated(target), suppress(FileNotFoundError):
                os.rename(self._seals / aside, target)
                folders.add(target.parent)
        for folder in folders:
            fsync(folder)

    def waiting(self) -> list[Waiting]:
        hidden = [name for name in self._listed() if name.startswith(".")]
        parts = [(name, *name.split(".")[1:3]) for name in hidden]
        return [Waiting(seal, name, is_output=number != "seal") for name, seal, number in parts]

    def discard(self, waiting: Waiting) -> None:
        with translated(self._seals):
            (self._seals / waiting.word).unlink(missing_ok=True)


class translated:  # noqa: N801 - reads as a statement
    """``with translated(path):`` turns the file system's errors into Permanent with *path* and a remedy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, pl.exceptions.PolarsError)):  # polars wraps what a write gave
            raise permanent(self._path, error) from error


def permanent(path: Path, error: Exception) -> Permanent:
    """*error* of the file system as Permanent; no content, only the path and the system's words."""
    text = getattr(error, "strerror", None) or str(error).splitlines()[0]
    full = "space" in text or "quota" in text
    fix = "make room and start again" if full else "check the disk, the path and its rights"
    return Permanent(f"cannot write: {text}", where=str(path), fix=fix)


def make_folder(path: Path, top: Path) -> None:
    """Make *path*, *top*, and what is missing above it, durably: each name is fsynced where it stands.

    From *top* on also names that are there: a process that was killed may have left them to the kernel.
    """
    if path != top:
        make_folder(path.parent, top)
    elif not path.parent.exists():
        make_folder(path.parent, path.parent)
    with translated(path):
        path.mkdir(exist_ok=True)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Make a file or a folder durable. An error is never ignored: the kernel may have dropped the pages."""
    with translated(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
