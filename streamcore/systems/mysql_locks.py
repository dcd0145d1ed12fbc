"""MySQL's named locks: by one that a session holds, others find the session and can end it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from streamcore.errors import Permanent
from streamcore.systems.mysql import Session, constant

_NO_SUCH_THREAD = "(1094)"


def held_name(*parts: str) -> str:
    """The name of the lock of whom *parts* name: at most 64 characters."""
    return f"streamcore {hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


async def end_holders(session: Session, names: Iterable[str]) -> None:
    """End the other sessions that hold these locks. A user may end sessions of its own."""
    for name in names:
        ((holder, own),) = await session.rows(f"select is_used_lock({constant(name)}), connection_id()")
        if holder is not None and holder != own:
            try:
                await session.run(f"kill {int(holder)}")
            except Permanent as error:
                if _NO_SUCH_THREAD not in error.what:  # it has gone by itself
                    raise
