"""What was asked for before and is believed for a while: in the memory of this process, or in Redis.

:mod:`.contract` says what a cache promises, whichever place it is in. A place is one module and one line of
:data:`PLACES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from streamcore.cache.contract import Place
from streamcore.cache.loading import Cache
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import mask_url, resolve
from streamcore.settings import Settings, load

__all__ = ["Cache", "open_cache"]

Clock = Callable[[], float]


def _memory(url: str, entries: int, clock: Clock) -> Place:
    from streamcore.cache.memory import MemoryPlace

    return MemoryPlace(entries, clock)


def _redis(url: str, entries: int, clock: Clock) -> Place:
    from streamcore.cache.redis import RedisPlace

    return RedisPlace(url)


PLACES: Mapping[str, Callable[[str, int, Clock], Place]] = {
    "memory": _memory,
    "redis": _redis,
    "rediss": _redis,
}
"""By the scheme of the URL."""


def open_cache(
    url: str | None = None,
    *,
    entries: int | None = None,
    settings: Settings | None = None,
    clock: Clock = time.monotonic,
) -> Cache:
    """The cache at *url*: ``memory:``, of *entries* at most, or ``redis://user:password@host:6379/0``.

    What is None is that of the *settings*, ``cache.url`` and ``cache.entries``. References are resolved.
    Nothing is connected yet: a server that is away is no error, then or later. *clock*, in seconds, tells the
    age of entries in memory. BadConfig: there is no such kind of cache.
    """
    if url is None or entries is None:
        given = (settings or load().settings).cache
        url, entries = given.url if url is None else url, given.entries if entries is None else entries
    url = resolve(url)
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in PLACES:
        raise BadConfig(
            "there is no such cache",
            got=mask_url(url),
            allowed=["memory:", "redis://user:password@host:6379/0", "rediss://… for TLS"],
            fix=did_you_mean(scheme, PLACES),
        )
    if entries < 1:
        raise BadConfig("a cache has room for an entry at least", got=entries)
    return Cache(PLACES[scheme](url, entries, clock), clock)
