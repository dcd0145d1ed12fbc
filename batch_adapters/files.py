"""The contract of input files, how errors of reading them are translated, and many of them as one source.

A source remembers what identifies each file's content when it is made, and refuses to read a file that
has changed since: positions of another content would mean other rows. Files are :mod:`.local_files` or
:mod:`.s3_files`; a format is written once, on :class:`InputFile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import polars as pl
import pyarrow as pa

from streamcore.contracts import BoundedSource, Split
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient


class InputFile(Protocol):
    """A file as it was when the source was made, wherever it lies. Frozen and hashable.

    Formats know no more of it than this. Errors are Transient or Permanent as in errors.py, whether they
    are raised by a method or while what :meth:`open` returned is read; others are :func:`reading`'s.
    """

    @property
    def name(self) -> str:
        """Its path or URI, without secrets; the end of it may tell the format."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def identity(self) -> str:
        """Tells it, with this content, from every other: its place, and what changes with the content."""
        ...

    @property
    def piece(self) -> int:
        """Bytes that are worth asking for at once where a format goes from place to place."""
        ...

    def open(self, position: int = 0, end: int | None = None, *, in_order: bool = True) -> pa.NativeFile:
        """A seekable file at *position*, for one thread; the caller closes it.

        For what is far away: nothing at or behind *end* is going to be read, and unless *in_order* what
        comes next can't be told, so that nothing is fetched ahead.
        Nothing but the content that it was made for is read: one that has changed is Permanent, at the
        latest by :meth:`check_unchanged`.
        """
        ...

    def check_unchanged(self) -> None:
        """Permanent when the file is gone or another one than when the source was made."""
        ...

    def __hash__(self) -> int: ...


class NothingThere(BadConfig):
    """A path, folder or pattern names no file, at least not yet."""


def digest(file: InputFile, options: str) -> str:
    """A hash of the file's identity and *options* (what changes the rows that are read)."""
    return hashlib.sha256(f"{file.identity}\0{options}".encode("utf-8", "surrogateescape")).hexdigest()


def changed(file: InputFile) -> Permanent:
    """The error for a file that is another one than when the source was made."""
    return Permanent(
        "the file has changed since the replay began",
        where=file.name,
        fix="start a new replay of its new content",
    )


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
            "the file can no longer be read", where=file.name, got=error.strerror or type(error).__name__
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise Transient("reading failed", where=file.name, got=error.strerror) from error
        raise Permanent(broken, where=file.name, got=first_line(error)) from error
    except library_errors as error:
        raise Permanent(broken, where=file.name, got=first_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Permanent(broken, where=file.name) from error


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
