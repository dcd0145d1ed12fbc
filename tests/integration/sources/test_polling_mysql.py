"""MySQL by a mark: a row that is committed late is not passed over, and who may not see that is told."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncmy
import pytest

from streamcore.errors import BadConfig
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import ids_of
from tests.services.mariadb import MariadbServer, execute

USERS = "create table users (id bigint primary key, name text, updated_at datetime(6) not null)"
POLL = "?table=users&poll=updated_at&settle=0s&every=10ms"


async def connected(dsn: str) -> asyncmy.Connection:
    parts = urlsplit(dsn)
    return await asyncmy.connect(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        database=parts.path.lstrip("/"),
    )


async def run(connection: asyncmy.Connection, statement: str) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)


async def test_a_row_that_is_committed_late_is_not_passed_over(mariadb: MariadbServer) -> None:
    """A transaction whose row has the lower mark is committed last."""
    dsn = mariadb.fresh_database()
    execute(dsn, USERS)
    late, early = [await connected(dsn) for _ in range(2)]
    reader = await asyncio.to_thread(open_unbounded(dsn + POLL).open, b"")
    found: list[int] = []

    async def poll() -> None:
        one = await asyncio.to_thread(reader.poll, 1 << 20, 0.0)
        found.extend(id for id, _ in (ids_of(one) if one is not None else []))

    await run(late, "begin")
    await run(late, "insert into users values (1, 'late', now(6))")
    await run(early, "insert into users values (2, 'early', now(6))")
    await run(early, "commit")
    for _ in range(20):
        await poll()
    assert found == [], "the other may still commit a row with a lower mark"
    await run(late, "commit")
    while len(found) < 2:
        await poll()
    assert found == [1, 2]
    for connection in (late, early):
        connection.close()
    await asyncio.to_thread(reader.close)


def test_who_may_not_see_open_transactions_is_told_what_to_grant(mariadb: MariadbServer) -> None:
    dsn = mariadb.fresh_database()
    parts = urlsplit(dsn)
    name = parts.path.lstrip("/")[-20:]
    execute(
        dsn,
        USERS,
        f"create user '{name}'@'%' identified by 'secret-of-mine'",
        f"grant all on {parts.path.lstrip('/')}.* to '{name}'@'%'",
    )
    theirs = urlunsplit(parts._replace(netloc=f"{name}:secret-of-mine@{parts.hostname}:{parts.port}"))
    with pytest.raises(BadConfig, match=r"committed late.*grant process") as refused:
        open_unbounded(theirs + POLL)
    assert "secret-of-mine" not in str(refused.value)
