"""Input files: what identifies them, how their errors are translated, and many of them as one source.

A source remembers each file's size and modification time when it is made, and refuses to read a
file that has changed since: positions of another content would mean other rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from streamcore.contracts import BoundedSource, Split
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file as it was when the source was made: ``size`` in bytes, ``mtime`` in nanoseconds."""

    path: Path
    size: int
    mtime: int

    @classmethod
    def of(cls, path: Path) -> InputFile:
        """Look *path* up. BadConfig when it can't be read."""
        try:
            stat = path.stat()
            readable = os.access(path, os.R_OK)
        except OSError as error:
            raise BadConfig("cannot read the file", where=str(path), got=error.strerror) from None
        if not path.is_file():
            raise BadConfig("not a regular file", where=str(path), fix="only files can be replayed")
        if not readable:
            raise BadConfig("no permission to read the file", where=str(path), fix="check its mode and owner")
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Permanent when the file is gone or another one than when the source was made."""
        with reading(self):
            stat = self.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.mtime):
            raise Permanent(
                "the file has changed since the replay began",
                where=str(self.path),
                fix="start a new replay of its new content",
            )

    def digest(self, options: str) -> str:
        """A hash of name, size, modification time and *options* (what changes the rows that are read)."""
        text = f"{self.path.absolute()}\0{self.size}\0{self.mtime}\0{options}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def reading(
    file: InputFile, broken: str = "the file is broken", library_errors: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Translate errors of reading *file*: gone, forbidden or damaged is Permanent, other I/O is Transient.

    Damaged (*broken* says it in words) is what *library_errors* tell, an OSError without an ``errno``,
    and a panic of a library in Rust, which is no Exception.
    """
    try:
        yield
    except StreamcoreError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Permanent(
            "the file can no longer be read", where=str(file.path), got=error.strerror or type(error).__name__
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise Transient("reading failed", where=str(file.path), got=error.strerror) from error
        raise Permanent(broken, where=str(file.path), got=first_line(error)) from error
    except library_errors as error:
        raise Permanent(broken, where=str(file.path), got=first_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Permanent(broken, where=str(file.path)) from error


def first_line(error: BaseException, length: int = 160) -> str:
    """The first line of a library's message; the lines after it may quote the content."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:length]


@dataclass(frozen=True, slots=True)
class JoinedFiles:
    """Several files of one format as one source: the splits of each, in the order of *parts*.

    ``sizes`` (bytes, one a part) share the wanted splits out; a file has at least one split.
    """

    uri: str
    parts: tuple[BoundedSource, ...]
    sizes: tuple[int, ...]

    def fingerprint(self) -> str:
        """A hash over the parts' fingerprints, which hold names, sizes and times."""
        return hashlib.sha256("\0".join(p.fingerprint() for p in self.parts).encode()).hexdigest()

    def columns(self) -> pl.Schema | None:
        """The first file's columns. BadConfig when another file has other names or types."""
        first, *others = [part.columns() for part in self.parts]
        for part, columns in zip(self.parts[1:], others, strict=True):
            if first is None or columns is None or dict(first) == dict(columns):
                continue
            differing = sorted({name for name, _ in set(first.items()) ^ set(columns.items())})
            raise BadConfig(
                f"the file's columns differ from those of {self.parts[0].uri}",
                where=part.uri,
                got=", ".join(differing),
                fix="replay files of different shape one by one",
            )
        return first

    def splits(self, wanted: int) -> Sequence[Split]:
        """One split a file, more of large files as long as *wanted* is not reached."""
        total = max(1, sum(self.sizes))
        return [
            split
            for part, size in zip(self.parts, self.sizes, strict=True)
            for split in part.splits(max(1, wanted * size // total))
        ]
