"""The contracts of bounded sources: what is read (a source), its parts (splits), and their open readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from streamcore.batch import Chunk, PartitionId


@dataclass(frozen=True, slots=True)
class SourceAbilities:
    """What a bounded source can do, as data.

    ``splits``: it is read in parts side by side. ``resumes``: a run that was broken off goes on where it
    was. ``columns``: it knows its columns and their types before a row is read.
    """

    splits: bool = True
    resumes: bool = True
    columns: bool = True


class SplitReader(Protocol):
    """An open split. Called from a worker thread, one call at a time."""

    def read(self, max_bytes: int) -> Chunk | None:
        """The next chunk of about *max_bytes* in memory (at least one record), or None at the end.

        The same split read again from the same position gives the same records at the same
        positions, as far as the system still has them. Transient and Permanent as in errors.py; what
        can't be cut into a record is in the chunk's ``rejects`` with stage "read".
        """
        ...

    def close(self) -> None: ...


class Split(Protocol):
    """A part of a bounded source that is read on its own: one source partition. Frozen."""

    @property
    def name(self) -> str:
        """For people and dead letters, e.g. the path and byte range."""
        ...

    @property
    def size(self) -> int:
        """Size of what is to be read, in the unit of positions (bytes of text, rows), for progress.

        An estimate where ``bookmark`` is not empty.
        """
        ...

    @property
    def bookmark(self) -> bytes:
        """Where it begins and ends, for sources whose positions do not say that by themselves.

        Of a file a position is a byte or a row, and this is b"". A table's rows have no place: there a
        position counts rows, and a bookmark (this one, and those of chunks) has the key to go on behind
        and the one to end at. The caller keeps bookmarks durable before it confirms what they lie behind.
        """
        ...

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        """Read from *position* (0, or an ``end`` of an earlier chunk) and label the chunks with *source*.

        Positions count from the split's start, so that ``size`` is where it ends. *bookmark* is that of
        the chunk that ended there, at 0 the split's own one: perhaps that of an earlier process, whose
        split had other bounds.
        """
        ...


class BoundedSource(Protocol):
    """A file, table or collection that is replayed as a stream that ends. Frozen, made from a URI."""

    @property
    def uri(self) -> str:
        """Without secrets."""
        ...

    def fingerprint(self) -> str:
        """Changes when what would be read changes (names, sizes, modification times)."""
        ...

    def columns(self) -> pl.Schema | None:
        """Column names and types as the source knows them, or None (JSON). BadConfig when unreadable."""
        ...

    def splits(self, wanted: int) -> Sequence[Split]:
        """About *wanted* splits, at least one a file; the same ones for the same fingerprint and *wanted*.

        Those with bookmarks need only be as many: their bounds are in their first bookmarks.
        """
        ...
