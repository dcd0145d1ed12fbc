"""The conformance suite of caches: one named test for each sentence of ``streamcore.cache.contract``.

A place's test module subclasses it and says how a cache is made there::

    class TestMine(CacheConformance):
        def cache(self) -> Cache:
            return Cache(MyPlace(…), time.monotonic)

Places that can be away subclass :class:`AbsenceConformance` besides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from streamcore.cache.loading import Cache
from streamcore.errors import BadConfig

__all__ = ["AbsenceConformance", "CacheConformance"]

LONG, SHORT = 300.0, 0.05
"""Times to live, in seconds: one that is never over in a test, and one that is soon."""
DEADLINE = 30.0
_AGAIN = 0.01


class Loads:
    """A function that loads, and how often it was called. It waits for *open* before it returns."""

    def __init__(self, value: bytes | None = b"loaded") -> None:
        self.value, self.calls = value, 0
        self.began, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def __call__(self) -> bytes | None:
        self.calls += 1
        self.began.set()
        await self.open.wait()
        return self.value


class _Caches:
    def cache(self) -> Cache:
        """A cache that was empty when the test began. Called in a test's event loop, once."""
        raise NotImplementedError

    def run(self, test: Callable[[Cache], Awaitable[None]]) -> None:
        """*test*, in an event loop of its own."""

        async def tested() -> None:
            cache = self.cache()
            try:
                await asyncio.wait_for(test(cache), DEADLINE)
            finally:
                await cache.close()

        asyncio.run(tested())


class CacheConformance(_Caches):
    """The laws of a cache whose place answers."""

    def test_what_was_set_is_found_until_it_is_deleted_or_set_again(self) -> None:
        async def test(cache: Cache) -> None:
            assert await cache.get("a") is None
            await cache.set("a", b"1", LONG)
            await cache.set("ü b", b"\0\xff", LONG)
            assert (await cache.get("a"), await cache.get("ü b")) == (b"1", b"\0\xff")
            await cache.set("a", b"", LONG)
            assert await cache.get("a") == b""
            await cache.delete("a", "never there")
            assert (await cache.get("a"), await cache.get("ü b")) == (None, b"\0\xff")

        self.run(test)

    def test_an_entry_is_gone_when_its_time_is_over(self) -> None:
        async def test(cache: Cache) -> None:
            await cache.set("short", b"1", SHORT)
            await cache.set("long", b"2", LONG)
            await _until(lambda: _is_gone(cache, "short"))
            assert await cache.get("long") == b"2"

        self.run(test)

    def test_a_time_to_live_must_be_one(self) -> None:
        async def test(cache: Cache) -> None:
            for wrong in (0.0, -1.0, float("inf"), float("nan")):
                with pytest.raises(BadConfig, match="time to live"):
                    await cache.set("a", b"1", wrong)
                with pytest.raises(BadConfig, match="time to live"):
                    await cache.get_or_load("a", Loads(), wrong)
            with pytest.raises(BadConfig, match="time to live"):
                await cache.get_or_load("a", Loads(), LONG, misses=-1.0)

        self.run(test)

    def test_what_is_there_is_not_loaded(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads()
            assert await cache.get_or_load("a", loads, LONG) == b"loaded"
            assert await cache.get_or_load("a", loads, LONG) == b"loaded"
            assert (await cache.get("a"), loads.calls) == (b"loaded", 1)
            await cache.delete("a")
            await cache.get_or_load("a", loads, LONG)
            assert loads.calls == 2

        self.run(test)

    def test_what_was_loaded_is_loaded_again_when_its_time_is_over(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads()
            await cache.get_or_load("a", loads, SHORT)
            await _until(lambda: _is_gone(cache, "a"))
            await cache.get_or_load("a", loads, LONG)
            assert loads.calls == 2

        self.run(test)

    def test_of_many_only_those_are_loaded_that_nobody_knows_and_together(self) -> None:
        async def test(cache: Cache) -> None:
            asked: list[list[str]] = []

            async def load(keys: Sequence[str]) -> Mapping[str, bytes]:
                asked.append(list(keys))
                return {key: key.encode() for key in keys if key != "none"}

            await cache.set("a", b"known", LONG)
            found = await cache.get_or_load_many(["a", "b", "none", "c", "b"], load, LONG)
            assert found == {"a": b"known", "b": b"b", "c": b"c"}
            assert await cache.get_or_load_many(["c", "none", "d"], load, LONG) == {"c": b"c", "d": b"d"}
            assert asked == [["b", "none", "c"], ["d"]]

        self.run(test)

    def test_concurrent_loads_of_one_key_load_once(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads()
            loads.open.clear()
            asking = [asyncio.ensure_future(cache.get_or_load("a", loads, LONG)) for _ in range(20)]
            await loads.began.wait()
            later = asyncio.ensure_future(cache.get_or_load("a", loads, LONG))
            other = await cache.get_or_load("b", Loads(b"other"), LONG)
            loads.open.set()
            assert await asyncio.gather(*asking, later) == [b"loaded"] * 21
            assert (other, loads.calls) == (b"other", 1)

        self.run(test)

    def test_who_is_cancelled_while_loading_leaves_it_to_the_next_who_waits(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads()
            loads.open.clear()
            first = asyncio.ensure_future(cache.get_or_load("a", loads, LONG))
            await loads.began.wait()
            second = asyncio.ensure_future(cache.get_or_load("a", loads, LONG))
            await asyncio.sleep(0)
            first.cancel()
            loads.open.set()
            assert await second == b"loaded"
            assert (first.cancelled(), loads.calls) == (True, 2)

        self.run(test)

    def test_that_there_is_nothing_is_kept_for_a_time_of_its_own(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads(None)
            for _ in range(2):
                assert await cache.get_or_load("a", loads, LONG) is None
            assert (await cache.get("a"), loads.calls) == (None, 1)
            for _ in range(2):
                assert await cache.get_or_load("b", loads, LONG, misses=0) is None
            assert loads.calls == 3
            loads.value = b"now"
            await cache.get_or_load("c", Loads(None), LONG, misses=SHORT)

            async def is_loaded() -> bool:
                return await cache.get_or_load("c", loads, LONG) == b"now"

            await _until(is_loaded)

        self.run(test)

    def test_an_error_goes_to_all_who_wait_and_is_not_kept(self) -> None:
        async def test(cache: Cache) -> None:
            gate = asyncio.Event()

            async def fail() -> bytes:
                await gate.wait()
                raise LookupError("no")

            asking = [asyncio.ensure_future(cache.get_or_load("a", fail, LONG)) for _ in range(3)]
            await asyncio.sleep(0)
            gate.set()
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(one) for one in found] == [LookupError] * 3
            assert await cache.get_or_load("a", Loads(), LONG) == b"loaded"

        self.run(test)

    def test_what_is_deleted_while_it_is_loaded_is_not_kept(self) -> None:
        async def test(cache: Cache) -> None:
            old, new = Loads(b"old"), Loads(b"new")
            old.open.clear()
            asking = asyncio.ensure_future(cache.get_or_load("a", old, LONG))
            await old.began.wait()
            await cache.delete("a")
            assert await cache.get_or_load("a", new, LONG) == b"new"  # it waits for no load from before
            old.open.set()
            assert await asking == b"old"
            assert await cache.get("a") == b"new"

        self.run(test)

    def test_what_is_set_while_it_is_loaded_stays(self) -> None:
        async def test(cache: Cache) -> None:
            loads = Loads(b"old")
            loads.open.clear()
            asking = asyncio.ensure_future(cache.get_or_load("a", loads, LONG))
            await loads.began.wait()
            await cache.set("a", b"new", LONG)
            loads.open.set()
            assert await asking == b"old"
            assert await cache.get("a") == b"new"

        self.run(test)


class AbsenceConformance(_Caches):
    """What a cache does whose place is away. It is there when a test begins."""

    def go_away(self) -> None:
        """From now on the place does not answer."""
        raise NotImplementedError

    def come_back(self) -> None:
        """It answers again, soon."""
        raise NotImplementedError

    def rest(self, cache: Cache) -> None:
        """Let :data:`streamcore.cache.loading.REST` pass on the cache's clock."""
        raise NotImplementedError

    def test_work_goes_on_while_it_is_away_and_the_log_says_so_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "streamcore.cache")

        async def test(cache: Cache) -> None:
            await cache.set("a", b"1", LONG)
            self.go_away()
            loads = Loads()
            for _ in range(3):
                assert await cache.get_or_load("a", loads, LONG) == b"loaded"
                assert await cache.get("a") is None
                await cache.set("b", b"2", LONG)
                await cache.delete("c")
            self.rest(cache)
            assert await cache.get_or_load("a", loads, LONG) == b"loaded"
            assert (loads.calls, len(caplog.records)) == (4, 1)
            assert caplog.records[0].levelname == "WARNING"

            self.come_back()

            async def is_kept() -> bool:
                self.rest(cache)
                await cache.set("b", b"3", LONG)
                return await cache.get("b") == b"3"

            await _until(is_kept)
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]

        self.run(test)


async def _is_gone(cache: Cache, key: str) -> bool:
    return await cache.get(key) is None


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """AssertionError when it does not hold within DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(_AGAIN)
