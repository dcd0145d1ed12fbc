"""Caches keep their promises, in memory and on a real Redis, also while that is away."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from streamcore.cache import open_cache
from streamcore.cache.loading import REST, Cache
from streamcore.testing.caches import LONG, AbsenceConformance, CacheConformance, Loads
from tests.services.redis import RedisServer

_numbers = itertools.count()


class TestMemory(CacheConformance):
    def cache(self) -> Cache:
        return open_cache("memory:")


class TestRedis(CacheConformance):
    @pytest.fixture(autouse=True)
    def server(self, redis: RedisServer) -> None:
        self.url = redis.fresh_database()

    def cache(self) -> Cache:
        return open_cache(self.url)

    def test_processes_share_it(self) -> None:
        async def test(cache: Cache) -> None:
            other = open_cache(self.url)
            await cache.get_or_load("shared", Loads(b"by one"), LONG)
            assert await other.get_or_load("shared", Loads(), LONG) == b"by one"
            await other.delete("shared")
            assert await cache.get("shared") is None
            await other.close()

        self.run(test)


class TestRedisIsAway(AbsenceConformance):
    @pytest.fixture(autouse=True)
    def server(self, own_redis: RedisServer) -> None:
        self.redis, self.now = own_redis, 0.0

    def cache(self) -> Cache:
        return open_cache(self.redis.url, clock=lambda: self.now)

    def go_away(self) -> None:
        self.redis.kill()

    def come_back(self) -> None:
        self.redis.start()

    def rest(self, cache: Cache) -> None:
        self.now += REST


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("wrong", ["black hole", "login"])
def test_a_server_that_is_no_good_fails_nothing_and_is_asked_once_a_while(
    wrong: str, black_hole: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = black_hole if wrong == "black hole" else redis.url.replace(":redispass@", ":other@")
    loads = []

    async def test() -> None:
        cache, load = open_cache(url), Loads()
        for number in range(200):
            await cache.get_or_load(f"key {number}", load, LONG)
        loads.append(load.calls)
        await cache.close()

    began = time.monotonic()
    asyncio.run(test())
    assert loads == [200]
    assert time.monotonic() - began < 20  # one wait of two seconds, not two hundred
    assert "other" not in caplog.text.replace("another", "")
    assert len(caplog.records) <= 1 + 20 / REST


def test_memory_forgets_what_nobody_has_asked_for_the_longest() -> None:
    now = 0.0

    async def test() -> list[bytes | None]:
        nonlocal now
        cache = open_cache("memory:", entries=3, clock=lambda: now)
        for key in "abc":
            await cache.set(key, key.encode(), 10)
        await cache.get("a")
        await cache.set("d", b"d", 20)
        first = [await cache.get(key) for key in "abcd"]
        now = 10
        return first + [await cache.get(key) for key in "acd"]

    assert asyncio.run(test()) == [b"a", None, b"c", b"d", None, None, b"d"]
