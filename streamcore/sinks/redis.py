"""``RedisStream``, ``RedisHash``, ``RedisSortedSet``: rows to Redis, exactly once.

How rows and positions are written together is in :mod:`.table_writer`; here a transaction is one script of
the server (:mod:`streamcore.systems.redis_writing`), and positions are a hash for each sink of a topology.
Rows travel as packed commands, made in columns (:mod:`.redis_commands`). Keys are made of columns:
``"orders:{country}"``; a brace is ``{{``. Of hashes and sorted sets, the last row of a key counts, and an
``_op`` of delete (or update-before without its after) removes what is there.

Redis holds text: each column in the spelling in which the stream's own types are read
(:func:`.redis_columns.text_of`). A null is a field that is not there.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl
import pyarrow as pa

from streamcore.contracts import SinkContext
from streamcore.errors import BadConfig
from streamcore.formats.json import Json
from streamcore.sinks.column_checks import Checked
from streamcore.sinks.keyed_table import Keyed, check_column
from streamcore.sinks.redis_columns import KeyPattern, ScoreColumn, SomeColumn, TextColumn, text_of
from streamcore.sinks.redis_commands import Pair, Word, chosen, command, joined, removal
from streamcore.sinks.redis_table import GONE, KEY, PLACE, Database
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.redis_keys import columns_in, parts_of
from streamcore.systems.redis_writing import MOST_WORDS, RedisSession

_MOST_BYTES = 256 << 10
"""Of rows in a script, while which nobody else is served: some 15 ms."""


class RedisSink(Keyed, abc.ABC):
    """What the three have in common."""

    probe: ClassVar[str]
    """A command that reads a key and fails on one that holds another kind of value."""

    url: str
    name: str

    @property
    @abc.abstractmethod
    def pattern_of_keys(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        return ()

    @abc.abstractmethod
    def checked(self, columns: pl.Schema) -> Sequence[Checked]:
        """Which rows can't be written; BadConfig for columns that can't."""

    @abc.abstractmethod
    def commands(self, rows: pl.DataFrame) -> pa.LargeBinaryArray:
        """The commands of each of *rows*, which have the key, whether they are deletes, and all columns."""

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown columns of the key, and for types that Redis can't have."""
        self.check_key(columns)
        KeyPattern(self.pattern_of_keys, columns)
        self.checked(columns)
        for name, dtype in columns.items():
            text_of(name, dtype)
        if 2 * len(columns) + 10 > MOST_WORDS:
            raise BadConfig("too many columns", got=len(columns), allowed=[f"at most {MOST_WORDS // 2 - 5}"])

    def writer(self, context: SinkContext) -> TableWriter[RedisSession]:
        return TableWriter(Database(self, context), context, _MOST_BYTES)


@dataclass(frozen=True)
class RedisStream(RedisSink):
    """Entries of the stream at the key ``stream``, whose fields are the columns; nulls are left out.

    ``url`` may hold references such as ``${env:REDIS_URL}``, the default; ``streamcore.systems.redis`` says
    how TLS is asked for. ``value``: instead, one field of this name with the row as JSON. ``max_length``:
    keep about so many entries, at least. ``name``: the sink's stable name, otherwise made from the key.
    """

    probe: ClassVar[str] = "XLEN"

    stream: str
    url: str = field(default="${env:REDIS_URL}", repr=False)
    value: str | None = None
    max_length: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        parts_of(self.stream)
        if self.max_length is not None and self.max_length < 1:
            raise BadConfig(
                "max_length must be positive", got=self.max_length, fix="leave it out to keep all"
            )
        object.__setattr__(self, "name", self.name or f"redis-stream:{self.stream}")

    @property
    def pattern_of_keys(self) -> str:
        return self.stream

    def checked(self, columns: pl.Schema) -> Sequence[Checked]:
        some = [] if self.value is not None else [SomeColumn(tuple(columns))]
        return [*some, *(TextColumn(name, dtype) for name, dtype in columns.items())]

    def commands(self, rows: pl.DataFrame) -> pa.LargeBinaryArray:
        limit = [] if self.max_length is None else [b"MAXLEN", b"~", str(self.max_length).encode()]
        words: list[Word] = [b"XADD", rows[KEY], *limit, b"*"]
        own = rows.drop(KEY, PLACE, GONE)
        if self.value is None:
            return command(rows.height, words, _pairs(own))
        whole = pl.from_arrow(Json().encode(own))
        assert isinstance(whole, pl.Series)
        return command(rows.height, words, [Pair(self.value.encode(), whole)])


@dataclass(frozen=True)
class RedisHash(RedisSink):
    """A hash for each row, at the key ``pattern``, e.g. ``"user:{id}"``, whose columns are those of the sink.

    Its fields are all columns, also those in the key; other fields are left alone. A null removes the field,
    a delete the hash. ``url`` and ``name`` are as for :class:`RedisStream`.
    """

    probe: ClassVar[str] = "HLEN"

    pattern: str
    url: str = field(default="${env:REDIS_URL}", repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        columns_in(self.pattern)
        object.__setattr__(self, "name", self.name or f"redis-hash:{self.pattern}")

    @property
    def pattern_of_keys(self) -> str:
        return self.pattern

    @property
    def keys(self) -> tuple[str, ...]:
        return columns_in(self.pattern)

    def checked(self, columns: pl.Schema) -> Sequence[Checked]:
        return [TextColumn(name, dtype) for name, dtype in columns.items()]

    def commands(self, rows: pl.DataFrame) -> pa.LargeBinaryArray:
        key, pairs = rows[KEY], _pairs(rows.drop(KEY, PLACE, GONE))
        set_, unset = command(rows.height, [b"HSET", key], pairs), removal([b"HDEL", key], pairs)
        both = set_ if unset is None else joined([set_, unset])
        gone = rows[GONE].to_numpy()
        return chosen(gone, command(rows.height, [b"UNLINK", key]), both) if gone.any() else both


@dataclass(frozen=True)
class RedisSortedSet(RedisSink):
    """Members of the sorted set at the key ``pattern``, e.g. ``"delays:{origin}"``.

    ``member`` is the column of the members, ``score`` that of their scores, a number; other columns are not
    written. A member has its last score; a delete removes it. ``url`` and ``name`` are as for
    :class:`RedisStream`.
    """

    probe: ClassVar[str] = "ZCARD"

    pattern: str
    member: str
    score: str
    url: str = field(default="${env:REDIS_URL}", repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        parts_of(self.pattern)
        object.__setattr__(self, "name", self.name or f"redis-sorted-set:{self.pattern}")

    @property
    def pattern_of_keys(self) -> str:
        return self.pattern

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(name for _, name in parts_of(self.pattern) if name), self.member]))

    def checked(self, columns: pl.Schema) -> Sequence[Checked]:
        check_column(self.score, columns, "score")
        return [TextColumn(self.member, columns[self.member]), ScoreColumn(self.score, columns[self.score])]

    def commands(self, rows: pl.DataFrame) -> pa.LargeBinaryArray:
        key, gone = rows[KEY], rows[GONE].to_numpy()
        member, score = (_texts(rows.select(name))[0] for name in (self.member, self.score))
        put = command(rows.height, [b"ZADD", key, score.fill_null("0"), member])
        return chosen(gone, command(rows.height, [b"ZREM", key, member]), put) if gone.any() else put


def _pairs(own: pl.DataFrame) -> list[Pair]:
    return [Pair(name.encode(), values) for name, values in zip(own.columns, _texts(own), strict=True)]


def _texts(own: pl.DataFrame) -> list[pl.Series]:
    return own.select(text_of(name, dtype) for name, dtype in own.schema.items()).get_columns()
