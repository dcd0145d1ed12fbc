"""PostgreSQL's logical replication messages (plugin pgoutput, version 1) as columns of text. Pure.

Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. Messages are read
column by column: where a value begins follows from the one before it, for all rows at once. Only those that
tell of tables are read one by one.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BEGIN, _COMMIT, _RELATION, _TRUNCATE = b"BCRT"
INSERT, UPDATE, DELETE = b"IUD"
_KEY, _OLD, _NEW = b"KON"
_NULL, _UNCHANGED, _TEXT = b"nut"
_KEY_FLAG = 1


class PgColumn(NamedTuple):
    """A column of a table: ``type`` is the OID of its type, ``modifier`` holds e.g. a numeric's digits."""

    name: str
    type: int
    modifier: int
    in_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as a Relation message tells of it; ``full``: its replica identity is all of a row."""

    id: int
    name: str
    full: bool
    columns: tuple[PgColumn, ...]


@dataclass(frozen=True, slots=True)
class Tuples:
    """Rows in columns of text, shape (rows,) each. ``unchanged``: large values that the log does not hold."""

    columns: tuple[pa.LargeStringArray, ...]
    unchanged: tuple[Bools, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of one table, in their order, numbered from 0; ``kinds``: I, U or D of each, shape (changes,).

    ``new``: the rows of the changes ``new_of``, which are all but the deletes.
    ``old``: of the changes ``old_of`` what is told of the rows before: the keys of those that are gone or got
    another key, or, with replica identity full, all of them as they were.
    """

    relation: Relation
    kinds: Bytes
    new_of: Int64s
    new: Tuples
    old_of: Int64s
    old: Tuples


class Truncated(NamedTuple):
    """A TRUNCATE of tables with these ids."""

    relations: tuple[int, ...]


class Place(NamedTuple):
    """Behind which change of which transaction: all of those that end at ``end`` or before, and of the one
    whose commit is at ``commit`` the first ``changes``.
    """

    end: int = 0
    commit: int = 0
    changes: int = 0

    def pack(self) -> bytes:
        """As a bookmark."""
        return orjson.dumps([self.end, self.commit, self.changes])

    @classmethod
    def unpack(cls, bookmark: bytes) -> Place:
        """What :meth:`pack` gave."""
        return cls(*orjson.loads(bookmark))


@dataclass
class Messages:
    """Reads messages in their order, batch by batch, and leaves out what lies before ``place``.

    ``seen``: how many changes there were, also those that were left out.
    """

    place: Place
    seen: int = 0
    _relations: dict[int, Relation] = field(default_factory=dict)
    _commit: int = 0
    _number: int = 0

    def read(self, messages: pa.BinaryArray) -> list[Changes | Truncated]:
        """What *messages* tell, in their order; :attr:`place` is behind them then."""
        if not len(messages):
            return []
        data = np.frombuffer(messages.buffers()[2], np.uint8)
        ends = np.frombuffer(messages.buffers()[1], np.int32)[messages.offset :][: len(messages) + 1]
        starts = ends[:-1].astype(np.int64)
        kinds = data[starts]
        commits, numbers = self._places(data, starts, kinds)
        behind = (commits >= self.place.end) & ~(
            (commits == self.place.commit) & (numbers <= self.place.changes)
        )
        rows = np.isin(kinds, [INSERT, UPDATE, DELETE])
        self.seen += int(rows.sum())
        found: list[Changes | Truncated] = []
        begun = 0
        for other in np.flatnonzero(np.isin(kinds, [_RELATION, _TRUNCATE])).tolist():
            found += self._changes(data, starts, kinds, (rows & behind)[begun:other], begun)
            message, begun = data[starts[other] : ends[other + 1]].tobytes(), other
            if kinds[other] == _RELATION:
                relation = _relation(message)
                self._relations[relation.id] = relation
            elif behind[other]:
                found.append(_truncated(message))
        found += self._changes(data, starts, kinds, (rows & behind)[begun:], begun)
        self._go_on(data, starts, kinds, commits, numbers)
        return found

    def _places(self, data: Bytes, starts: Int64s, kinds: Bytes) -> tuple[Int64s, Int64s]:
        """Of each message the commit of its transaction, and how many changes of that there are up to it."""
        begins = np.flatnonzero(kinds == _BEGIN)
        which = np.cumsum(kinds == _BEGIN)
        commits = np.concatenate([[self._commit], _int64_at(data, starts[begins] + 1)])
        counted = np.isin(kinds, [INSERT, UPDATE, DELETE, _TRUNCATE])
        total = np.cumsum(counted)
        before = np.concatenate([[-self._number], total[begins]])
        return commits[which], total - before[which]

    def _go_on(self, data: Bytes, starts: Int64s, kinds: Bytes, commits: Int64s, numbers: Int64s) -> None:
        self._commit, self._number = int(commits[-1]), int(numbers[-1])
        over = np.flatnonzero(kinds == _COMMIT)
        end = max(self.place.end, int(_int64_at(data, starts[over[-1:]] + 10)[0]) if len(over) else 0)
        if self._commit >= end and self._number:
            new = Place(end, self._commit, self._number)
            self.place = max(self.place, new) if self.place.commit == self._commit else new
        elif end > self.place.end:
            self.place = Place(end)

    def _changes(self, data: Bytes, starts: Int64s, kinds: Bytes, wanted: Bools, begun: int) -> list[Changes]:
        """The changes among the messages from *begun* on that are *wanted*; by runs of one table."""
        places = np.flatnonzero(wanted) + begun
        if not len(places):
            return []
        at, kind = starts[places], kinds[places]
        tables = _int32_at(data, at + 1) & 0xFFFFFFFF
        cuts = [0, *(np.flatnonzero(np.diff(tables)) + 1).tolist(), len(at)]
        return [
            _changes_of(data, self._relations[int(tables[start])], at[start:end], kind[start:end])
            for start, end in itertools.pairwise(cuts)
        ]


def _changes_of(data: Bytes, relation: Relation, at: Int64s, kind: Bytes) -> Changes:
    """The changes at these places, which are all of *relation*."""
    mark = data[at + 5]
    has_old = np.flatnonzero((mark == _KEY) | (mark == _OLD))
    old, behind = _tuples(data, at[has_old] + 6, len(relation.columns))
    new_at = at + 6
    new_at[has_old] = behind + 1
    has_new = np.flatnonzero(kind != DELETE)
    new, _ = _tuples(data, new_at[has_new], len(relation.columns))
    return Changes(relation, kind, has_new, new, has_old, old)


def _tuples(data: Bytes, at: Int64s, columns: int) -> tuple[Tuples, Int64s]:
    """The rows whose data begins at *at*, and where each ends."""
    at = at + 2  # the number of columns
    texts: list[pa.LargeStringArray] = []
    unchanged: list[Bools] = []
    for _ in range(columns):
        kind = data[at] if len(at) else np.empty(0, np.uint8)
        has = kind == _TEXT
        sizes = np.zeros(len(at), np.int64)
        sizes[has] = _int32_at(data, at[has] + 1)
        texts.append(_texts(data, at + 5, sizes, has))
        unchanged.append(kind == _UNCHANGED)
        at = at + 1 + np.where(has, 4 + sizes, 0)
    return Tuples(tuple(texts), tuple(unchanged)), at


def _texts(data: Bytes, starts: Int64s, sizes: Int64s, there: Bools) -> pa.LargeStringArray:
    """The texts of *sizes* bytes at *starts*, null where none is *there*."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    places = np.repeat(starts - ends[:-1], sizes) + np.arange(ends[-1])
    valid = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    buffers = [valid, pa.py_buffer(ends), pa.py_buffer(data[places])]
    return pa.Array.from_buffers(pa.large_string(), len(sizes), buffers)


def _int32_at(data: Bytes, at: Int64s) -> Int64s:
    return np.ascontiguousarray(data[at[:, None] + np.arange(4)]).view(">i4").ravel().astype(np.int64)


def _int64_at(data: Bytes, at: Int64s) -> Int64s:
    return np.ascontiguousarray(data[at[:, None] + np.arange(8)]).view(">i8").ravel().astype(np.int64)


def _truncated(message: bytes) -> Truncated:
    (count,) = struct.unpack_from(">i", message, 1)
    return Truncated(struct.unpack_from(f">{count}I", message, 6))


def _relation(message: bytes) -> Relation:
    (id_,) = struct.unpack_from(">I", message, 1)
    schema, at = _name(message, 5)
    name, at = _name(message, at)
    full, (count,) = message[at : at + 1] == b"f", struct.unpack_from(">h", message, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        flags = message[at]
        column, at = _name(message, at + 1)
        type_, modifier = struct.unpack_from(">ii", message, at)
        columns.append(PgColumn(column, type_ & 0xFFFFFFFF, modifier, bool(flags & _KEY_FLAG)))
        at += 8
    return Relation(id_, f"{schema}.{name}" if schema else name, full, tuple(columns))


def _name(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1
