"""What databases have alike: three errors, and transactions of SQL with savepoints inside of them."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streamcore.errors import StreamcoreError, Transient


class Locked(Transient):
    """Somebody else holds a lock for longer than this session waits for one."""


class Moved(Exception):
    """A stored position is not where a transaction starts, or not its owner's. Nothing is written.

    A session raises it at the end of its transaction, where only then the server says so.
    """


class RefusedRows(StreamcoreError):
    """The statement's rows, or one of them, can't be stored; ``code`` is the system's name of the reason.

    ``places``: which ones of the frame that was written, where the system says it; ``complete``: all of them.
    """

    def __init__(
        self, what: str, *, code: str, where: str, places: Sequence[int] = (), complete: bool = False
    ) -> None:
        self.code, self.places, self.complete = code, tuple(places), complete
        super().__init__(what, where=where)


class SqlSession(abc.ABC):
    """One connection whose errors are ours. After a Transient or Permanent error it is to be aborted."""

    begin = "BEGIN"
    savepoints = True

    def __init__(self) -> None:
        self._depth = 0

    @abc.abstractmethod
    async def run(self, sql: str) -> int:
        """Execute one statement; the number of rows that it touched."""

    @abc.abstractmethod
    async def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        """All rows of *sql*."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Say good-bye if the other side listens, and free what is open in any case."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Free what is open at once."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN … COMMIT, or ROLLBACK of all of it on any error; inside of another one a savepoint."""
        name = f"s{self._depth}"
        begin, end, back = (
            (f"SAVEPOINT {name}", f"RELEASE SAVEPOINT {name}", f"ROLLBACK TO SAVEPOINT {name}")
            if self._depth
            else (self.begin, "COMMIT", "ROLLBACK")
        )
        await self.run(begin)
        self._depth += 1
        try:
            yield
            await self.run(end)
        except BaseException:
            try:
                await self.run(back)
            except Exception:  # noqa: BLE001 - the first error counts; without a session there is no transaction
                self.abort()
            raise
        finally:
            self._depth -= 1
