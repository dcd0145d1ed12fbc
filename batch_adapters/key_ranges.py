"""Tables as bounded streams: rows in the order of a key, in ranges of it that are read side by side.

The rows of a table have no place of their own, so positions count them in the order of the key, and a
bookmark says what is left: the keys behind this one, up to that one. A connector for a database gives a
:class:`KeyedTable`; splits, positions and bookmarks are the same for all.

While a table is read others may write to it. What a run sees is the table at one moment where the system can
do that (see the connector). A run that goes on after a crash sees it as it is then: rows that were changed
behind its bookmarks come as they are now, rows that came before them are not seen, and none comes twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import orjson
import polars as pl

from batch_adapters.refused_rows import PartlyRefusedChunk, Refused
from streamcore.batch import Chunk, FrameChunk, PartitionId
from streamcore.contracts import Split
from streamcore.errors import Permanent

Key: TypeAlias = tuple[str, ...]
"""The values of a key's columns, each as text that the system takes."""


class Page(Protocol):
    """Rows in the order of the key, at least one."""

    def last_key(self) -> Key:
        """The key of the last row; () where the table has no key."""
        ...

    def repeated_key(self, behind: Key | None) -> Key | None:
        """The first key that two rows in a row have, or that is *behind*'s; None: there is none."""
        ...

    def chunk(self, source: PartitionId, first: int) -> Chunk:
        """The rows as a chunk of *source*, at the positions *first* and on."""
        ...


class FramePage(NamedTuple):
    """A page of columns, with its rows' keys: no columns where the table has no key.

    Python's text of a value in ``keys`` is that of a :data:`Key`.
    """

    frame: pl.DataFrame
    keys: pl.DataFrame
    refused: Refused | None = None

    def last_key(self) -> Key:
        """See :class:`Page`."""
        return self._key_at(-1)

    def repeated_key(self, behind: Key | None) -> Key | None:
        """See :class:`Page`."""
        if not self.keys.width:
            return None
        again = self.keys.select(pl.all_horizontal(pl.all() == pl.all().shift()).fill_null(False)).to_series()
        place = again.arg_max() if again.any() else 0 if self._key_at(0) == behind else None
        return None if place is None else self._key_at(place)

    def chunk(self, source: PartitionId, first: int) -> FrameChunk:
        """See :class:`Page`."""
        frame, end = self.frame, first + self.frame.height
        offsets = np.arange(first, end, dtype=np.int64)
        if self.refused is None:
            return FrameChunk(source, offsets, frame, first=first, end=end)
        return PartlyRefusedChunk(source, offsets, frame, self.refused, first=first, end=end)

    def _key_at(self, row: int) -> Key:
        return tuple(map(str, self.keys.row(row))) if self.keys.width else ()


Pages: TypeAlias = Generator[Page, None, None]
_FIRST_ROWS, _GROWTH, _VALUE_BYTES = 64, 8, 100


class PageSize:
    """How many rows a page should have: few at first, then by how large those before were.

    For systems that are asked for a number of rows, *most* at a time, where a page may have *max_bytes*.
    """

    def __init__(self, max_bytes: int, columns: int, most: int) -> None:
        self._max_bytes, self._most = max_bytes, most
        self._rows = max(1, min(_FIRST_ROWS, max_bytes // (_VALUE_BYTES * max(1, columns))))

    def __call__(self) -> int:
        return self._rows

    def was(self, frame: pl.DataFrame) -> None:
        """The page before was this one."""
        fitting = self._max_bytes * frame.height // max(1, int(frame.estimated_size()))
        self._rows = max(1, min(fitting, _GROWTH * self._rows, self._most))


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The rows with a key above ``behind`` and not above ``until``; None: from the first, to the last.

    ``empty``: no row at all.
    """

    behind: Key | None = None
    until: Key | None = None
    empty: bool = False

    def pack(self) -> bytes:
        """As a bookmark."""
        return orjson.dumps([self.behind, self.until, self.empty])

    @classmethod
    def unpack(cls, bookmark: bytes) -> KeyRange:
        """What :meth:`pack` gave."""
        behind, until, empty = orjson.loads(bookmark)
        return cls(_key(behind), _key(until), empty)


def _key(values: list[str] | None) -> Key | None:
    return None if values is None else tuple(values)


class KeyedTable(Protocol):
    """A table, view or query of a database, with a key that is unique and never null.

    Its methods may do I/O, from several threads at a time, and raise Transient, Permanent and BadConfig. All
    of one process see the same moment, where the system can do that.
    """

    @property
    def uri(self) -> str:
        """With what is read, without secrets."""
        ...

    def identity(self) -> str:
        """What it is and which columns it has, not its rows: another one is another replay."""
        ...

    def columns(self) -> pl.Schema | None:
        """The columns that are read, without what only the key needs; None: documents."""
        ...

    def rows(self) -> int:
        """About how many there are; 0 when unknown."""
        ...

    def borders(self, parts: int) -> Sequence[Key]:
        """At most *parts* - 1 keys, ascending and different, that cut the rows into about equal parts."""
        ...

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        """The rows of *part*, about *max_bytes* a page. Closing the generator frees what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class TableSource:
    """*table* as a source. Its rows may change between two runs, so its fingerprint is not of them."""

    table: KeyedTable

    @property
    def uri(self) -> str:
        return self.table.uri

    def fingerprint(self) -> str:
        return hashlib.sha256(self.table.identity().encode()).hexdigest()

    def columns(self) -> pl.Schema | None:
        return self.table.columns()

    def splits(self, wanted: int) -> Sequence[Split]:
        """Always *wanted* ones, so that a replay that goes on finds its own; some may hold nothing."""
        borders = self.table.borders(wanted) if wanted > 1 else ()
        ends = [None, *borders, None]
        parts = [KeyRange(behind, until) for behind, until in pairwise(ends)]
        about = self.table.rows() // len(parts)
        parts += [KeyRange(empty=True)] * (wanted - len(parts))
        return [
            TableSplit(self.table, part, 0 if part.empty else about, number)
            for number, part in enumerate(parts)
        ]


@dataclass(frozen=True, slots=True)
class TableSplit:
    """A range of keys, part *number* of its source; positions count its rows. ``size`` is an estimate."""

    table: KeyedTable
    part: KeyRange
    size: int
    number: int = 0

    @property
    def name(self) -> str:
        """The table and the range."""
        if self.part.empty:
            return f"{self.table.uri} (nothing for part {self.number})"
        ends = ["" if key is None else ",".join(key) for key in (self.part.behind, self.part.until)]
        return self.table.uri if ends == ["", ""] else f"{self.table.uri} ({ends[0]} to {ends[1]}]"

    @property
    def bookmark(self) -> bytes:
        """All of the range."""
        return self.part.pack()

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> TableReader:
        return TableReader(self.table, KeyRange.unpack(bookmark or self.bookmark), source, position)


class TableReader:
    """Reads one split. Nothing is asked of the database before the first :meth:`read`."""

    def __init__(self, table: KeyedTable, part: KeyRange, source: PartitionId, position: int) -> None:
        self._table, self._part, self._source, self._position = table, part, source, position
        self._pages: Pages | None = None

    def read(self, max_bytes: int) -> Chunk | None:
        if self._part.empty:
            return None
        if self._pages is None:
            if self._part.behind == ():
                raise Permanent(
                    "without a key it is not known where to go on",
                    where=self._table.uri,
                    fix="--again reads all rows once more; give key=COLUMN before the next time",
                )
            self._pages = self._table.read(self._part, max_bytes)
        page = next(self._pages, None)
        if page is None:
            return None
        check_unique(page, self._part.behind, self._table.uri)
        chunk = page.chunk(self._source, self._position)
        self._part, self._position = KeyRange(page.last_key(), self._part.until), chunk.end
        chunk.bookmark = self._part.pack()
        return chunk

    def close(self) -> None:
        if self._pages is not None:
            self._pages.close()


def check_unique(page: Page, behind: Key | None, uri: str) -> None:
    """Permanent where two rows in a row have one key: who goes on behind the first would miss the second.

    *behind* is the key of the row before *page*.
    """
    key = page.repeated_key(behind)
    if key is not None:
        raise Permanent(
            "the key is not unique: two rows in a row have it",
            where=uri,
            got=",".join(key),
            fix="give columns that are unique together with key=",
        )
