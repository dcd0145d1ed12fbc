"""Taking partitions over, many at a time: each waits for answers of the broker most of its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

from streamcore.batch import PartitionId
from streamcore.runtime.sink_runner import SinkRunner

T = TypeVar("T")
_SIDE_BY_SIDE = 8


async def stands_of(
    runners: Mapping[str, SinkRunner],
    reached: Mapping[PartitionId, Collection[str]],
    starts: Mapping[PartitionId, int],
) -> dict[PartitionId, dict[str, int]]:
    """Where each sink stands in the sources that reach it; former owners are fenced on return."""
    stands: dict[PartitionId, dict[str, int]] = {source: {} for source in reached}

    async def open_sink(sink: str) -> None:
        mine = {s: starts.get(s, 0) for s, sinks in reached.items() if sink in sinks}
        for source, position in (await runners[sink].open(mine)).items() if mine else ():
            stands[source][sink] = position

    await side_by_side(open_sink, runners)
    return stands


async def side_by_side(act: Callable[[T], Awaitable[None]], over: Iterable[T]) -> None:
    """*act* on each of *over*, a few at a time; ends when all have ended, with the first failure."""
    turns = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def take_turn(one: T) -> None:
        async with turns:
            await act(one)

    outcomes = await asyncio.gather(*map(take_turn, over), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
