"""A coroutine that is begun where it is called goes on like any other."""

from __future__ import annotations

import asyncio

import pytest

from streamcore.transport.begun import Begun


async def test_what_need_not_wait_has_ended() -> None:
    async def work() -> int:
        return 7

    begun = Begun(work())
    assert (begun.ended, begun.result) == (True, 7)


async def test_what_it_raises_at_once_is_raised_where_it_is_begun() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Begun(work())


@pytest.mark.parametrize("set_before", [True, False])
async def test_the_rest_is_done_in_any_task(set_before: bool) -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        first = await future
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except asyncio.TimeoutError:
            first += 1
        return first

    begun = Begun(work())
    assert not begun.ended
    if set_before:
        future.set_result(1)
    rest = asyncio.ensure_future(begun)
    await asyncio.sleep(0)
    if not set_before:
        future.set_result(1)
    assert await rest == 2


async def test_a_cancellation_reaches_it() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    rest = asyncio.ensure_future(Begun(work()))
    await asyncio.sleep(0)
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    assert seen == ["cancelled", "cleaned up"]
