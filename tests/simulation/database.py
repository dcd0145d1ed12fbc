"""A simulated PostgreSQL: the real writer's statements on tables in memory, with locks and lost COMMITs.

It stands in for streamcore.systems.postgres.Session and connect, below the fence, the transactions, the
savepoints and the reconciling of the real :class:`streamcore.sinks.table_writer.TableWriter`. What a
statement says of the fence is read from its text, so that a worker without a fence writes without one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_UPDATE_BEFORE
from streamcore.errors import Transient
from streamcore.sinks.postgres_statements import TABLE_COLUMNS, TERMINATE
from streamcore.sinks.postgres_table import Table
from streamcore.systems.sql import Locked, RefusedRows
from tests.simulation.loop import PROCESS, Process
from tests.simulation.network import Network

T = TypeVar("T")
PositionKey = tuple[str, str, str, int]
"""Topology, sink, topic id, partition."""
REFUSED = 13
"""Rows whose ``n`` is this break a constraint of tables without a key, while it is there."""
_LOCK_TIMEOUT, _LOCK_LOOK = 0.4, 0.05


@dataclass
class Position:
    """A row of ``streamcore_positions``."""

    topic: str
    next: int
    epoch: int
    owner: str


class Written(NamedTuple):
    """A row as it was written: its number in its stream, and the user's columns."""

    offset: int
    row: dict[str, object]
    gone: bool


class Commit(NamedTuple):
    """A transaction that was committed: for each partition what it says to hold, and the rows."""

    sink: str
    ranges: dict[PositionKey, tuple[int, int, int]]
    """Start, end, and the epoch of the writer."""
    rows: list[Written]
    stale: list[str]
    """Partitions that the writer did not own any more, or not at that position: what a fence is for."""


class Database:
    """The server: what is committed, and what it was asked to commit."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.strict = True
        """Whether the constraint on ``n`` is there."""
        self.unheard = 0.0
        """The share of COMMITs whose reply is lost, whatever the network does."""
        self.on_refusal: Callable[[Process], object] = lambda process: None
        """Told of each row that was refused alone: whose it is."""
        self.idle_timeout = 1.5
        """Seconds: a transaction whose client says nothing is ended."""
        self.tables: dict[str, dict[object, dict[str, object]]] = {}
        self.positions: dict[PositionKey, Position] = {}
        self.commits: list[Commit] = []
        self.locks: dict[PositionKey, SimulatedSession] = {}
        self.sessions: list[SimulatedSession] = []

    def rows(self, table: str) -> list[dict[str, object]]:
        """What is in *table*."""
        return list(self.tables.get(table, {}).values())

    async def connect(self, address: object, name: str) -> SimulatedSession:
        """In place of streamcore.systems.postgres.connect."""
        process = PROCESS.get()
        assert process is not None

        def open_() -> SimulatedSession:
            session = SimulatedSession(self, process, name)
            self.sessions.append(session)
            process.deaths.append(session.end)  # the kernel closes its sockets
            return session

        return await self.network.call(open_)


@dataclass
class _Transaction:
    sets: dict[PositionKey, tuple[int, int, int]] = field(default_factory=dict)
    rows: list[tuple[str, tuple[str, ...], list[Written]]] = field(default_factory=list)
    sink: str = ""
    stale: list[str] = field(default_factory=list)


class SimulatedSession:
    """One connection. It is of no use any more after the first failure, as with the real one."""

    savepoints = True

    def __init__(self, database: Database, process: Process, name: str) -> None:
        self._database, self._process, self.name = database, process, name
        self.broken = self.begins = False
        self._open: _Transaction | None = None
        self._heard = 0.0

    # ------------------------------------------------------------ as the real one

    async def run(self, sql: str, *values: object) -> int:
        if sql.startswith(("create temporary", "explain")):
            return 0
        assert sql.startswith("update "), sql
        return await self._locking(lambda: self._compare_and_set(sql, *values), _keys(*values[:4]))

    async def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        if sql == TABLE_COLUMNS or "to_regclass" in sql or "advisory" in sql:
            raise AssertionError("the table is prepared by SimulatedTable")
        if sql == TERMINATE:
            return await self._asked(lambda: self._terminate(values[0]))
        if sql.startswith("insert into"):
            topology, sink, owner, ids, numbers, topics, starts = values
            keys = _keys(topology, sink, ids, numbers)
            return await self._locking(lambda: self._take_over(keys, owner, topics, starts), keys)
        return await self._asked(lambda: self._read(*values))

    async def insert(self, table: str, keys: tuple[str, ...], written: list[Written]) -> None:
        """COPY into the table, and what merges it by *keys*."""

        def effect() -> None:
            assert self._open is not None
            if self._database.strict and not keys and any(w.row.get("n") == REFUSED for w in written):
                if len(written) == 1:
                    self._database.on_refusal(self._process)
                raise RefusedRows("check violation", code="check_violation", where="sim")
            self._open.rows.append((table, keys, written))

        await self._asked(effect)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN … COMMIT; inside of another one a savepoint."""
        outer = self._open
        kept = 0 if outer is None else len(outer.rows)
        self.begins = outer is None
        try:
            await self._asked(self._begin)
        finally:
            self.begins = False
        try:
            yield
        except BaseException:
            if outer is None:
                self._rollback()
            elif self._open is not None:
                del self._open.rows[kept:]
            raise
        if outer is None:
            share = self._database.unheard
            unheard = share > 0 and self._database.network.dice.random() < share
            await self._asked(self._commit, unheard=unheard)

    async def close(self) -> None:
        self.end()

    def abort(self) -> None:
        self.end()

    # ------------------------------------------------------------ on the server

    def end(self) -> None:
        """The server notices that the client is gone."""
        self.broken = True
        self._rollback()
        if self in self._database.sessions:
            self._database.sessions.remove(self)

    async def _asked(self, effect: Callable[[], T], *, unheard: bool = False) -> T:
        def served() -> T:
            if self.broken:
                raise Transient("the connection was lost")
            self._heard = self._database.network.loop.now
            return effect()

        try:
            return await self._database.network.send(served, channel=self, unheard=unheard)
        except Transient:
            self.broken = True
            raise

    async def _locking(self, effect: Callable[[], T], keys: Sequence[PositionKey]) -> T:
        """*effect* once no other transaction has *keys*, as a row lock has it."""
        waited = 0.0
        while True:

            def try_() -> tuple[bool, T | None]:
                self._database_ends_idle()
                holders = [self._database.locks.get(key) for key in keys]
                if any(h is not None and h is not self for h in holders):
                    return False, None
                return True, effect()

            done, result = await self._asked(try_)
            if done:
                return result  # type: ignore[return-value]
            await asyncio.sleep(_LOCK_LOOK)
            waited += _LOCK_LOOK
            if waited > _LOCK_TIMEOUT:
                raise Locked("another session holds a lock", where="sim")

    def _database_ends_idle(self) -> None:
        now = self._database.network.loop.now
        for session in list(self._database.sessions):
            if session._open is not None and now - session._heard > self._database.idle_timeout:
                session.end()

    def _begin(self) -> None:
        if self._open is None:
            self._open = _Transaction()

    def _rollback(self) -> None:
        self._open = None
        locks = self._database.locks
        for key in [key for key, holder in locks.items() if holder is self]:
            del locks[key]

    def _compare_and_set(
        self,
        sql: str,
        topology: object,
        sink: object,
        ids: object,
        numbers: object,
        starts: object,
        ends: object,
        epochs: object,
    ) -> int:
        assert self._open is not None
        by_place, by_owner = "p.next_offset = n.start" in sql, "p.owner_epoch = n.epoch" in sql
        found = 0
        columns = (_keys(topology, sink, ids, numbers), starts, ends, epochs)
        for key, start, end, epoch in zip(*columns, strict=True):  # type: ignore[call-overload]
            position = self._database.positions[key]
            at_place, owned = position.next == start, position.epoch == epoch
            if (at_place or not by_place) and (owned or not by_owner):
                self._open.sets[key] = (start, end, epoch)
                self._database.locks[key] = self
                found += 1
                if not (at_place and owned):
                    self._open.stale.append(f"{sink} {key[2:]} [{start}, {end}) of epoch {epoch}: {position}")
        self._open.sink = str(sink)
        return found

    def _take_over(
        self, keys: Sequence[PositionKey], owner: object, topics: object, starts: object
    ) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for key, topic, start in zip(keys, topics, starts, strict=True):  # type: ignore[call-overload]
            known = self._database.positions.get(key)
            if known is None:
                known = self._database.positions[key] = Position(topic, start, 0, "")
            known.epoch, known.owner = known.epoch + 1, str(owner)
            found.append((key[2], key[3], known.next, known.epoch))
        return found

    def _read(self, topology: object, sink: object) -> list[tuple[object, ...]]:
        return [
            (key[2], key[3], position.next, position.epoch, position.owner)
            for key, position in self._database.positions.items()
            if key[:2] == (topology, sink)
        ]

    def _terminate(self, names: object) -> list[tuple[object, ...]]:
        for session in list(self._database.sessions):
            if session.name in names and session is not self:  # type: ignore[operator]
                session.end()
        return []

    def _commit(self) -> None:
        done, database = self._open, self._database
        assert done is not None
        for place, (_, end, _) in done.sets.items():
            database.positions[place].next = end
        rows: list[Written] = []
        for name, keys, written in done.rows:
            table = database.tables.setdefault(name, {})
            for one in written:
                key: object = tuple(one.row[k] for k in keys) if keys else len(table)
                if one.gone:
                    table.pop(key, None)
                else:
                    table[key] = one.row
            rows += written
        database.commits.append(Commit(done.sink, done.sets, rows, done.stale))
        self._rollback()


class SimulatedTable:
    """In place of :class:`streamcore.sinks.postgres_table.Table`."""

    checks: SimulatedTable

    def __init__(self, sink: Table) -> None:
        self._sink, self.checks = sink, self

    @classmethod
    async def prepare(cls, session: SimulatedSession, sink: Table, columns: pl.Schema) -> SimulatedTable:
        return cls(sink)

    async def begin(self, session: SimulatedSession) -> None:
        pass

    def refused(self, frame: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, tuple[()]]:
        """Every value of every type fits."""
        return frame, ()

    async def refuse_at_once(self, session: SimulatedSession) -> None:
        pass

    async def write(self, session: SimulatedSession, frame: pl.DataFrame) -> None:
        gone = frame[OP].is_in([OP_DELETE, OP_UPDATE_BEFORE]).to_list()
        rows = frame.drop(HIDDEN).to_dicts()
        written = [Written(*one) for one in zip(frame[OFFSET].to_list(), rows, gone, strict=True)]
        await session.insert(self._sink.table, self._sink.keys, written)  # type: ignore[attr-defined]


def _keys(topology: object, sink: object, ids: object, numbers: object) -> list[PositionKey]:
    return [(str(topology), str(sink), id, number) for id, number in zip(ids, numbers, strict=True)]  # type: ignore[call-overload]
