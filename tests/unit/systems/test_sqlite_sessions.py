"""Sessions that write to one file of SQLite at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamcore.errors import StreamcoreError
from streamcore.systems.sqlite import Session, connect


async def test_sessions_that_wait_for_a_lock_do_not_keep_its_holder_from_going_on(tmp_path: Path) -> None:
    """More of them than asyncio has threads to share."""
    path = tmp_path / "one.db"
    first = await connect(path)
    await first.run("create table t (n integer)")
    sessions = [first, *[await connect(path) for _ in range(49)]]

    async def write(session: Session, number: int) -> None:
        async with session.transaction():
            for _ in range(3):
                await session.run(f"insert into t values ({number})")

    # Each that waits five seconds for the lock is an error: Locked.
    await asyncio.gather(*(write(session, number) for number, session in enumerate(sessions)))
    assert await first.rows("select count(*), count(distinct n) from t") == [(150, 50)]
    for session in sessions:
        await session.close()


async def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = await connect(tmp_path / "one.db")
    await session.close()
    with pytest.raises(StreamcoreError, match="closed"):
        await session.run("select 1")
