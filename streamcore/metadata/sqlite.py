"""Metadata in SQLite: a file that the processes of one machine share, or the memory of this one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from streamcore.metadata.database import Row, Statement, Value, Work
from streamcore.systems.sqlite import Session, connect

T = TypeVar("T")


class SqliteDatabase:
    """See :class:`streamcore.metadata.database.Database`."""

    serial = "integer primary key autoincrement"
    alone: Sequence[Statement] = ()

    def __init__(self, path: Path | None) -> None:
        """*path* None: in memory, gone with the process."""
        self._path = path
        self._session: Session | None = None
        self._lock = asyncio.Lock()

    async def transact(self, work: Work) -> bool:
        return await self._alone(self._transact(work))

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        return await self._alone(self._rows(sql, values))

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            async with self._lock:
                await session.close()

    async def _transact(self, work: Work) -> bool:
        async with self._lock:
            session = await self._opened()
            return await session.transact(
                [
                    (one.sql, [one.values], one.touches)
                    if isinstance(one, Statement)
                    else (one.sql, one.rows, None)
                    for one in work
                ]
            )

    async def _rows(self, sql: str, values: Sequence[Value]) -> Sequence[Row]:
        async with self._lock:
            session = await self._opened()
            return await session.numbered_rows(sql, values)

    async def _opened(self) -> Session:
        if self._session is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._session = await connect(self._path)
        return self._session

    @staticmethod
    async def _alone(work: Awaitable[T]) -> T:
        """Its thread can't be stopped: a caller that is cancelled leaves it to its end."""
        return await asyncio.shield(asyncio.ensure_future(work))
