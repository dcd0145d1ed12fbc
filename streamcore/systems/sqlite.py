"""SQLite: connections and what its errors mean. Its module is Python's own.

A writing session waits for others' locks as long as ``BUSY_SECONDS``, writes its log ahead (WAL) and syncs it
at each COMMIT (``synchronous=FULL``). Statements run in a thread, one at a time.

===========================================  ===========================================
SQLite says                                  raised
===========================================  ===========================================
locked, busy                                 :class:`Locked`, a :class:`Transient`
interrupted                                  :class:`Transient`
constraint failed, datatype mismatch         :class:`RefusedRows`: some rows are bad
all else (full disk, no database, syntax)    :class:`Permanent` with the remedy
===========================================  ===========================================
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlsplit

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.systems.sql import Locked, RefusedRows, SqlSession

T = TypeVar("T")
Numbered: TypeAlias = tuple[str, Sequence[Sequence[object]], int | None]
"""A statement with parameters ``$1``, ``$2`` …, a row of them for each time it runs, and how many rows of the
database it must touch in all, if that matters."""
BUSY_SECONDS = 5.0
_SETTINGS = ("pragma journal_mode = wal", "pragma synchronous = full", "pragma foreign_keys = on")
_REMEDIES = {
    "no such table": "make the table, or let the sink make it: create=True",
    "disk is full": "make room on the disk",
    "ON CONFLICT clause does not match": "make a unique index on exactly the key's columns",
    "readonly": "let this user write the file and its folder",
    "unable to open": "give a file in a folder that there is, which this user may write",
    "not a database": "is this an SQLite database?",
}
_CODES = {
    "UNIQUE": "unique_violation",
    "NOT NULL": "not_null_violation",
    "CHECK": "check_violation",
    "FOREIGN KEY": "foreign_key_violation",
    "datatype mismatch": "datatype_mismatch",
}


def path_of(uri: str) -> Path:
    """The file of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``. BadConfig for a host."""
    parts = urlsplit(uri)
    if parts.netloc:
        raise BadConfig(
            "an SQLite URI names no host",
            where=uri,
            got=parts.netloc,
            fix="write sqlite:///relative/path.db, three slashes, or sqlite:////absolute/path.db, four",
        )
    return Path(unquote(parts.path.removeprefix("/")))


def identifier(name: str) -> str:
    """A name quoted by SQLite's rule."""
    return '"' + name.replace('"', '""') + '"'


def constant(value: str | int) -> str:
    """A constant of SQL; of a text without NUL."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def open_file(path: Path, mode: str, seconds: float | None = None) -> sqlite3.Connection:
    """A connection in *mode* "ro" or "rwc", which begins no transactions by itself. Errors are SQLite's.

    It waits *seconds* (BUSY_SECONDS) for a lock.
    """
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS if seconds is None else seconds,
        isolation_level=None,
        check_same_thread=False,
    )


class Session(SqlSession):
    """A connection that writes, in a thread of its own. One call at a time.

    In threads that sessions share, those that wait for a lock would keep its holder from going on.
    """

    begin = "BEGIN IMMEDIATE"

    def __init__(self, connection: sqlite3.Connection, where: str) -> None:
        super().__init__()
        self._connection, self._where = connection, where
        self._thread = ThreadPoolExecutor(1, "streamcore-sqlite")

    async def run(self, sql: str) -> int:
        """Execute one statement; the number of rows that it touched."""
        return await self._in_thread(lambda: self._connection.execute(sql).rowcount)

    async def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute one statement with a parameter for each value of a row, for all of *rows*."""

        def run() -> None:
            # Closed here: freed in another thread it would reset the statement under the call that follows.
            self._connection.executemany(sql, rows).close()

        await self._in_thread(run)

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        """All rows of *sql*."""
        return await self._in_thread(lambda: self._connection.execute(sql).fetchall())

    async def transact(self, work: Sequence[Numbered]) -> bool:
        """All of *work* in one transaction, in one thread; False, and nothing is changed, when one missed."""

        def run() -> bool:
            connection = self._connection
            connection.execute(self.begin)
            try:
                for sql, rows, touches in work:
                    touched = sum(connection.execute(sql, _numbered(row)).rowcount for row in rows)
                    if touches is not None and touched != touches:
                        connection.execute("ROLLBACK")
                        return False
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return True

        return await self._in_thread(run)

    async def numbered_rows(self, sql: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        """All rows of *sql*, whose parameters are ``$1``, ``$2`` …"""
        return await self._in_thread(lambda: self._connection.execute(sql, _numbered(values)).fetchall())

    async def close(self) -> None:
        """Close the file."""
        self.abort()

    def abort(self) -> None:
        """Give up what is open, and close the file."""
        with suppress(sqlite3.ProgrammingError):  # it is closed already
            self._connection.interrupt()
        self._connection.close()
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Cancelled, it interrupts the statement and waits for its thread: then the next one may come."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError:  # it is closed already
            raise translated(sqlite3.ProgrammingError("the connection is closed"), self._where) from None
        try:
            return await asyncio.shield(running)
        except sqlite3.Error as error:
            raise translated(error, self._where) from None
        except asyncio.CancelledError:
            with suppress(sqlite3.ProgrammingError):  # it is closed already
                self._connection.interrupt()
            await asyncio.wait([running])
            running.exception()  # retrieved: what is told is that it was cancelled
            raise


def _numbered(values: Sequence[object]) -> dict[str, object]:
    """As SQLite wants parameters whose names are numbers."""
    return {str(number): value for number, value in enumerate(values, 1)}


async def connect(path: Path | None) -> Session:
    """A session that writes to *path*, which is made when it is missing; None: to a database in memory."""
    where = ":memory:" if path is None else str(path)
    try:
        if path is None:
            connection = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        else:
            connection = await asyncio.to_thread(open_file, path, "rwc")
    except sqlite3.Error as error:
        raise translated(error, where) from None
    session = Session(connection, where)
    try:
        for setting in _SETTINGS:
            await session.run(setting)
    except BaseException:
        session.abort()
        raise
    return session


def translated(error: sqlite3.Error, where: str) -> StreamcoreError:
    """The error of this package for SQLite's."""
    message = str(error)
    if "locked" in message or "busy" in message:
        return Locked("another process has locked the database", where=where)
    if "interrupted" in message or "closed database" in message:
        return Transient(message, where=where)
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)):
        named = (code for start, code in _CODES.items() if message.startswith(start))
        return RefusedRows(message, code=next(named, "constraint_violation"), where=where)
    known = (fix for part, fix in _REMEDIES.items() if part in message)
    return Permanent(message, where=where, fix=next(known, None))
