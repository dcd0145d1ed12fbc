"""MySQL and MariaDB read from worker threads: pages of texts, which become columns at once.

The driver is asyncio's. A reading session has a loop in a thread of its own, so that it may be used from
any thread, one call at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from streamcore.errors import StreamcoreError
from streamcore.systems.mysql import Address, Field, Row, Session, connect

T = TypeVar("T")
_BEGIN = "start transaction with consistent snapshot, read only"
_SET_UP = (
    "set time_zone = '+00:00', net_write_timeout = 3600, wait_timeout = 86400",
    "set session transaction isolation level repeatable read",
    _BEGIN,
)
"""The server waits for a reader whose rows press back, and for one whose other parts are read."""
_STATEMENT_SECONDS = 3600.0
"""A statement may have to sort a table. That the server has gone the kernel finds: see systems.mysql."""


class ReadSession:
    """A read-only transaction that sees the database as it is now.

    Transient when the server can't be reached now, Permanent when it says no. After an error it is closed.
    Values come as the texts that the server sends, those of binary columns as bytes.
    """

    def __init__(self, where: Address) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mysql", daemon=True)
        self._thread.start()
        self._session: Session | None = None
        self._session = self._done(connect(where, _SET_UP, _STATEMENT_SECONDS))

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._session is None

    def renew(self) -> None:
        """End the transaction, and begin one that sees the database as it is now."""
        self.run("commit")
        self.run(_BEGIN)

    def run(self, sql: str) -> None:
        """Execute a statement that gives nothing."""
        self._done(self._open.run(sql))

    def rows(self, sql: str) -> list[Row]:
        """All rows of *sql*, which are few."""
        return self._done(self._open.rows(sql))

    def fields(self, sql: str) -> list[Field]:
        """The columns of *sql*."""
        return self._done(self._open.fields(f"select * from ({sql}) as asked limit 0"))

    def pages(self, sql: str, size: Callable[[], int]) -> Iterator[list[Row]]:
        """The rows of *sql* as they come from the server, ``size()`` at a time."""
        pages = self._open.pages(sql, size)
        while page := self._done(_next(pages)):
            yield page

    def close(self) -> None:
        """End the transaction and free the socket; a statement that runs is given up."""
        session, self._session = self._session, None
        if session is not None:
            self._loop.call_soon_threadsafe(session.abort)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @property
    def _open(self) -> Session:
        assert self._session is not None, "the session was closed"
        return self._session

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except StreamcoreError:
            self.close()
            raise


async def _next(pages: AsyncIterator[list[Row]]) -> list[Row]:
    return await anext(pages, [])
