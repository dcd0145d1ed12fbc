"""Files of this machine: what a path, a pattern or a folder names, and how such a file is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batch_adapters.files import NothingThere, changed, reading
from streamcore.errors import BadConfig, did_you_mean


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file as it was when the source was made: ``size`` in bytes, ``mtime`` in nanoseconds."""

    path: Path
    size: int
    mtime: int

    @classmethod
    def of(cls, path: Path) -> LocalFile:
        """Look *path* up. BadConfig when it can't be read."""
        try:
            stat = path.stat()
            readable = os.access(path, os.R_OK)
        except FileNotFoundError:
            raise NothingThere("there is no such file", where=str(path)) from None
        except OSError as error:
            raise BadConfig("cannot read the file", where=str(path), got=error.strerror) from None
        if not path.is_file():
            raise BadConfig("not a regular file", where=str(path), fix="only files can be replayed")
        if not readable:
            raise BadConfig("no permission to read the file", where=str(path), fix="check its mode and owner")
        return cls(path, stat.st_size, stat.st_mtime_ns)

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> str:
        """Of path, size and modification time."""
        return f"{self.path.absolute()}\0{self.size}\0{self.mtime}"

    @property
    def piece(self) -> int:
        return 1 << 20

    def open(self, position: int = 0, end: int | None = None, *, in_order: bool = True) -> pa.NativeFile:
        with reading(self):
            handle = pa.OSFile(self.name)
            handle.seek(position)
            return handle

    def check_unchanged(self) -> None:
        with reading(self):
            stat = self.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.mtime):
            raise changed(self)


def find(pattern: str, options: Mapping[str, object]) -> tuple[str, list[LocalFile]]:
    """*pattern* and the files that it names, sorted. BadConfig when there are none; there are no options."""
    path = Path(pattern)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and not hidden(p.relative_to(path).parts)]
    elif path.exists() or not glob.has_magic(pattern):
        found = [path] if path.exists() else []
    else:
        found = [p for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file()]
    if not found:
        raise _nothing_there(path, pattern)
    return pattern, list(_there(sorted(found)))


def _there(paths: Iterable[Path]) -> Iterator[LocalFile]:
    """Those that are still there: others may take files away while a folder is looked through."""
    for path in paths:
        try:
            yield LocalFile.of(path)
        except NothingThere:
            continue


def hidden(parts: tuple[str, ...]) -> bool:
    """Names that writers keep to themselves: ``.tmp``, ``_SUCCESS``."""
    return any(part.startswith((".", "_")) for part in parts)


def _nothing_there(path: Path, pattern: str) -> NothingThere:
    if path.is_dir():
        return NothingThere("the folder has no files", where=pattern)
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    there = sorted(entry.name for entry in folder.iterdir())
    what = "no file matches" if glob.has_magic(pattern) else "no such file or folder"
    hint = did_you_mean(path.name, there) or f"{folder} holds: {', '.join(there[:10]) or 'nothing'}"
    return NothingThere(what, where=pattern, fix=hint)
