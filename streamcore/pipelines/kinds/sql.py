"""SQL statements in a database, in one transaction, exactly once.

The first statement of the transaction notes the task's effect in the table ``streamcore_effects`` of the same
database, which is made when it is missing. An attempt that follows one whose COMMIT was made, though nobody
heard of it, finds the note and does nothing. One that follows a killed one waits until the server has ended
that one's session, which holds the note. With ``transaction: false`` (for VACUUM and its like) each statement
is on its own, and an attempt may repeat what a lost one did.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.models import Seconds
from streamcore.secrets import Secret
from streamcore.systems.sql import Locked, RefusedRows

EFFECTS = "streamcore_effects"


class SqlOptions(Options):
    """Which statements, and where."""

    connection_string: Secret = Field(description="postgresql://…, sqlite:///path.db; may hold references.")
    sql: tuple[str, ...] = Field(
        min_length=1, description="One statement, or a list of them; none of them holds another one."
    )
    transaction: bool = Field(True, description="All of them in one transaction, exactly once.")
    statement_timeout: Seconds = Field(
        3600.0, gt=0, description="Seconds that one statement may take at most."
    )

    @field_validator("sql", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class SqlTarget(Protocol):
    """A session with a database."""

    async def run(self, sql: str) -> int:
        """Execute one statement; the number of rows that it touched, -1 where there are none to count."""

    async def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        """All rows of a query."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """BEGIN … COMMIT, or ROLLBACK on any error."""

    async def close(self) -> None:
        """Say good-bye."""

    def abort(self) -> None:
        """Free what is open at once, and stop what is under way."""


async def _postgres(uri: str, seconds: float) -> SqlTarget:
    from streamcore.systems.postgres import address, connect

    session = await connect(address(uri), "streamcore task", seconds)
    try:
        await session.watch_client()  # or what a killed attempt began goes on, and holds its locks
    except BaseException:
        session.abort()
        raise
    return session


async def _sqlite(uri: str, seconds: float) -> SqlTarget:
    from streamcore.systems.sqlite import connect, path_of

    return await connect(path_of(uri))


DATABASES: Mapping[str, Callable[[str, float], Awaitable[SqlTarget]]] = {
    "postgresql": _postgres,
    "postgres": _postgres,
    "sqlite": _sqlite,
}
"""By the scheme of the URI."""


async def run(options: SqlOptions, context: TaskContext) -> TaskResult:
    """Execute them; cancelled, the statement under way is stopped and the transaction taken back."""
    async with session_of(options.connection_string, options.statement_timeout) as session:
        if not options.transaction:
            return TaskResult(rows=await _execute(session, options, context))
        return await _once(session, options, context)


async def _make_effects(session: SqlTarget) -> None:
    create = f"create table if not exists {EFFECTS} (effect_id text primary key, made_at text not null)"
    try:
        await session.run(create)
    except (RefusedRows, Permanent):  # PostgreSQL's word for one that is made at this moment
        await session.run(create)


async def _once(session: SqlTarget, options: SqlOptions, context: TaskContext) -> TaskResult:
    """All in a transaction that begins with the note of their effect; begun again while that is locked.

    Locked after *statement_timeout* seconds of that, and at once when the statements themselves meet a lock.
    """
    values = f"{_quoted(context.effect_id)}, cast(current_timestamp as text)"
    deadline = time.monotonic() + options.statement_timeout
    made = noted = told = False
    while True:
        try:
            if not made:
                await _make_effects(session)
                made = True
            async with session.transaction():
                if not await session.run(f"insert into {EFFECTS} values ({values}) on conflict do nothing"):
                    return TaskResult(message="it was made by an attempt before")
                noted = True
                return TaskResult(rows=await _execute(session, options, context))
        except Locked:
            if noted or time.monotonic() >= deadline:
                raise
            if not told:
                context.log("another session holds the note of this effect: waiting for its end")
            told = True


async def _execute(session: SqlTarget, options: SqlOptions, context: TaskContext) -> int:
    rows = 0
    for number, statement in enumerate(options.sql, 1):
        touched = max(await session.run(statement), 0)
        rows += touched
        context.log(f"statement {number} of {len(options.sql)}: {touched} rows")
        context.report(rows, None)
    return rows


@asynccontextmanager
async def session_of(connection_string: Secret, seconds: float) -> AsyncIterator[SqlTarget]:
    """A session of the block's own, each of whose statements takes *seconds* at most; ended with the block.

    BadConfig for a database that tasks have no way to.
    """
    uri = connection_string.reveal()
    scheme = urlsplit(uri).scheme
    if scheme not in DATABASES:
        raise BadConfig(
            "no SQL tasks for this database",
            got=scheme,
            allowed=DATABASES,
            fix=did_you_mean(scheme, DATABASES),
        )
    session = await DATABASES[scheme](uri, seconds)
    try:
        yield session
    except BaseException:
        session.abort()
        raise
    await session.close()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


SQL = Kind(SqlOptions, run)
