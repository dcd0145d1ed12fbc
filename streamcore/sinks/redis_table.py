"""What the Redis sinks share when they are live: positions in a hash, and rows as packed commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa

from streamcore.batch import DELETES, HIDDEN, PartitionId
from streamcore.contracts import SinkContext
from streamcore.secrets import resolve
from streamcore.sinks.column_checks import Checked, ColumnChecks
from streamcore.sinks.fence import POSITIONS, Move, Stored, StoredKey
from streamcore.sinks.redis_columns import KeyPattern
from streamcore.sinks.redis_commands import bytes_of, offsets_of, packed_words
from streamcore.systems.redis_writing import Commands, RedisSession, Start, Step, connect
from streamcore.systems.sql import RefusedRows

_MOST_ROW_BYTES = 500_000_000
"""What the server takes at once (``proto-max-bulk-len`` is 512 MB)."""
KEY, PLACE, GONE = " key", " place", " gone"
"""Columns of the rows that become commands: the key, the place in the frame, whether it is a delete."""


class Written(Protocol):
    """What is known of a sink: see :class:`streamcore.sinks.redis.RedisSink`."""

    @property
    def probe(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def pattern_of_keys(self) -> str: ...
    def checked(self, columns: pl.Schema) -> Sequence[Checked]: ...
    def commands(self, rows: pl.DataFrame) -> pa.LargeBinaryArray: ...


class RedisFence:
    """Positions are the fields, one a partition, of a hash a sink."""

    def __init__(self, topology: str, sink: str) -> None:
        self._key = f"{POSITIONS}:{topology}:{sink}"

    async def take_over(
        self, session: RedisSession, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        asked = [Start(_field(p), p.topic, start, owner) for p, start in starts.items()]
        found = await session.take_over(self._key, asked)
        return {partition: _stored(one) for partition, one in zip(starts, found, strict=True)}

    async def stored(self, session: RedisSession) -> Mapping[StoredKey, Stored]:
        found = {}
        for name, one in (await session.stored(self._key)).items():
            topic_id, _, partition = name.rpartition("/")
            found[topic_id, int(partition)] = _stored(one)
        return found

    async def move(self, session: RedisSession, moves: Sequence[Move]) -> bool:
        """Always: whether it was right the server says at the end of the transaction (``Moved``)."""
        session.step(self._key, [Step(_field(m.partition), m.start, m.end, m.epoch) for m in moves])
        return True

    async def end_sessions(self, session: RedisSession, owners: Iterable[str]) -> None:
        """Nothing: no session holds anything."""


def _field(partition: PartitionId) -> str:
    return f"{partition.topic_id}/{partition.partition}"


def _stored(found: Mapping[str, str]) -> Stored:
    return Stored(int(found["next_offset"]), int(found["owner_epoch"]), found["owner"])


class Database:
    """The connection to a sink's server."""

    system = "redis"

    def __init__(self, sink: Written, context: SinkContext) -> None:
        self._sink = sink
        self.fence = RedisFence(context.topology, context.sink)

    async def connect(self) -> RedisSession:
        return await connect(resolve(self._sink.url))

    async def look(self, session: RedisSession) -> None:
        """Keys are there when they are written."""

    async def prepare(self, session: RedisSession, columns: pl.Schema) -> Keys:
        return Keys(self._sink, columns)


class Keys:
    """The target. ``checks`` finds rows that can't be stored; :meth:`write` hands the others over."""

    def __init__(self, sink: Written, columns: pl.Schema) -> None:
        self._sink, pattern = sink, KeyPattern(sink.pattern_of_keys, columns)
        self._key = pattern.value.alias(KEY)
        needed = dict.fromkeys((*sink.keys, *pattern.names))
        self.checks = ColumnChecks([*sink.checked(columns), pattern], tuple(needed))

    async def begin(self, session: RedisSession) -> None:
        """Nothing."""

    async def refuse_at_once(self, session: RedisSession) -> None:
        """The server always does."""

    async def write(self, session: RedisSession, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) in the session's transaction."""
        rows = frame.with_columns(self._key, pl.int_range(pl.len()).alias(PLACE), DELETES.alias(GONE)).drop(
            HIDDEN
        )
        keys = rows[KEY]
        if self._sink.keys:
            rows = rows.unique(self._sink.keys, keep="last", maintain_order=True)
        packed = self._sink.commands(rows)
        sizes = pl.Series(offsets_of(packed)).diff()[1:]
        if rows.height and int(str(sizes.max())) > _MOST_ROW_BYTES:
            places = rows.filter(sizes > _MOST_ROW_BYTES)[PLACE].to_list()
            what = "the row has more than 500 MB"
            raise RefusedRows(what, code="too_large", where=self._sink.name, places=places)
        session.write(
            Commands(self._sink.probe, bytes_of(packed_words(keys.unique())), bytes_of(packed), keys)
        )
