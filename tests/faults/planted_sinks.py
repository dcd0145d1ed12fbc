"""Mistakes of sinks that write to tables, collections, Redis or by POST, put into a worker on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from streamcore.batch import PartitionId
from streamcore.errors import StreamcoreError
from streamcore.sinks.fence import Move, RowFence, Stored
from streamcore.sinks.http import HttpWriter
from streamcore.sinks.mongodb import MongoFence
from streamcore.sinks.table_writer import TableWriter

SLOW_SECONDS = 0.3
"""So much later comes what is not waited for."""
_CONDITION = " and next_offset = "


def put(owner: object, name: str, new: object) -> None:
    """*new* in the place of *name* of *owner*, which must be there: else the plant shows nothing any more."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, new)


def _blind_fence() -> None:
    """Positions are set whoever owns them and wherever they stand, and nobody looks what is stored."""
    right = RowFence.compare_and_set

    def blind(self: RowFence[Any], move: Move) -> str:
        kept, fence = right(self, move).split(_CONDITION)
        assert "owner_epoch" in fence
        return kept

    async def blind_mongo(self: MongoFence, session: Any, moves: Sequence[Move]) -> bool:
        for move in moves:
            change = {"$set": {"next_offset": move.end}}
            await session.update("streamcore_positions", {"_id": self._id(move.partition)}, change)
        return True

    put(RowFence, "compare_and_set", blind)
    put(MongoFence, "move", blind_mongo)
    nobody_looks()


def nobody_looks() -> None:
    """Who connects anew does not ask what is stored: that alone would find a new owner too."""

    async def nothing(self: TableWriter[Any], session: object) -> None:
        return

    put(TableWriter, "_reconcile", nothing)


def _rows_before_the_position() -> None:
    """The rows are committed, and a little later, in a transaction of its own, the position."""
    right = TableWriter._transaction

    async def apart(self: TableWriter[Any], session: Any, parts: Mapping[Any, Any], careful: bool) -> None:
        frames = [batch.frame for part in parts.values() for batch in part.batches if len(batch)]
        if frames and not careful:
            async with session.transaction():
                await self._prepared.write(session, pl.concat(frames))
            await asyncio.sleep(SLOW_SECONDS)
            parts = {key: replace(part, batches=[]) for key, part in parts.items()}
        await right(self, session, parts, careful)

    put(TableWriter, "_transaction", apart)


def _errors_are_confirmed() -> None:
    """What the server says is not heard: the position passes the rows all the same."""
    right = TableWriter._transaction

    async def deaf(self: TableWriter[Any], session: object, *arguments: object, **named: object) -> None:
        try:
            await right(self, session, *arguments, **named)  # type: ignore[arg-type]
        except StreamcoreError:
            self._drop_session()

    _blind_fence()
    put(TableWriter, "_transaction", deaf)


def _stored_position_is_a_hint() -> None:
    """Who takes a partition over begins where the group's commit is, not where the rows are."""
    for fence in (RowFence, MongoFence):
        _begin_at_the_start(fence)
    _blind_fence()


def _begin_at_the_start(fence: type[Any]) -> None:
    take_over = fence.take_over

    async def begin(
        self: object, session: object, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        found = await take_over(self, session, starts, owner)
        return {key: one._replace(position=starts[key]) for key, one in found.items()}

    put(fence, "take_over", begin)


def _posts_are_not_awaited() -> None:
    """A request is answered when it is made; it goes out a little later."""
    post, under_way = HttpWriter._post, set[asyncio.Task[int]]()

    async def later(self: HttpWriter, request: Any) -> int:
        await asyncio.sleep(SLOW_SECONDS)
        return await post(self, request)

    async def forget(self: HttpWriter, request: Any) -> int:
        under_way.add(asyncio.create_task(later(self, request)))
        self._context.crash_point("http.answered")
        return 201

    put(HttpWriter, "_post", forget)


MISTAKES: dict[str, Callable[[], None]] = {
    "blind_fence": _blind_fence,
    "rows_before_the_position": _rows_before_the_position,
    "errors_are_confirmed": _errors_are_confirmed,
    "stored_position_is_a_hint": _stored_position_is_a_hint,
    "posts_are_not_awaited": _posts_are_not_awaited,
}
