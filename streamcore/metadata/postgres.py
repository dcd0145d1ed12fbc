"""Metadata in PostgreSQL, for orchestrators on several machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streamcore.errors import Permanent, Transient
from streamcore.metadata.database import Row, Statement, Value, Work
from streamcore.systems.postgres import Session, address, connect

CONNECTIONS, COMMAND_SECONDS = 4, 10.0
_LOCK = 0x73747265616D  # "stream": the advisory lock of migrations


class PostgresDatabase:
    """See :class:`streamcore.metadata.database.Database`. Up to CONNECTIONS sessions, made when wanted."""

    serial = "bigint generated always as identity primary key"
    alone: Sequence[Statement] = (Statement(f"select pg_advisory_xact_lock({_LOCK})"),)

    def __init__(self, url: str) -> None:
        self._address = address(url)
        self._idle: list[Session] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def transact(self, work: Work) -> bool:
        async with self._session() as session:
            try:
                async with session.transaction():
                    for one in work:
                        if not isinstance(one, Statement):
                            await session.run_many(one.sql, one.rows)
                            continue
                        touched = await session.run(one.sql, *one.values)
                        if one.touches is not None and touched != one.touches:
                            raise _MissedError
            except _MissedError:
                return False
        return True

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        async with self._session() as session:
            return await session.rows(sql, *values)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()

    async def _connected(self) -> Session:
        return await connect(self._address, "streamcore metadata", COMMAND_SECONDS)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A session of its own; one that met an error, or was left in the middle, is thrown away."""
        async with self._room:
            session = self._idle.pop() if self._idle else await self._connected()
            try:
                yield session
            except (Transient, Permanent, asyncio.CancelledError):
                session.abort()
                raise
            except BaseException:
                self._idle.append(session)
                raise
            self._idle.append(session)


class _MissedError(Exception):
    """A statement touched other rows than it should: the transaction goes back."""
