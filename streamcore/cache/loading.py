"""``Cache``: get, set, delete, and get or load. What it promises is said in :mod:`.contract`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from streamcore.cache.contract import Place
from streamcore.errors import BadConfig, StreamcoreError

log = logging.getLogger("streamcore.cache")
T = TypeVar("T")
REST = 5.0
"""Seconds for which a place that did not answer is not asked again."""
_NOTHING, _VALUE = b"\0", b"\1"
"""The first byte of an entry: that there is nothing, or that a value follows."""

Load: TypeAlias = Callable[[], Awaitable["bytes | None"]]
LoadMany: TypeAlias = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
Found: TypeAlias = dict[str, "bytes | None"]


class Cache:
    """Values (bytes) under keys (texts) that are believed for some seconds.

    ::

        cache = open_cache("redis://localhost:6379/0")
        rates = await cache.get_or_load("rates:today", load_rates, seconds=60)
    """

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        """*clock*: seconds, which only go forth."""
        self._place, self._clock = place, clock
        self._flights: dict[str, asyncio.Future[Found]] = {}
        """By key, the load that is under way and whose result is to be kept."""
        self._away_until = -math.inf
        self._away = False

    async def get(self, key: str) -> bytes | None:
        """The value; None where none is known, or it is known that there is none."""
        return (await self._known([key])).get(key)

    async def set(self, key: str, value: bytes, seconds: float) -> None:
        """Keep *value* for *seconds* at most."""
        self._forget([key])
        entries, kept = {key: _VALUE + value}, _checked(seconds)
        await self._asked(lambda: self._place.set(entries, kept), None)

    async def delete(self, *keys: str) -> None:
        """Forget what is known under *keys*."""
        self._forget(keys)
        await self._asked(lambda: self._place.delete(keys), None)

    async def get_or_load(
        self, key: str, load: Load, seconds: float, misses: float | None = None
    ) -> bytes | None:
        """The value, which *load* gives if it is not known and is then kept for *seconds*.

        None: *load* has found nothing, which is kept for *misses* seconds (the same unless given; 0: not at
        all). Raises what *load* raises, and nothing else.
        """

        async def load_it(_: Sequence[str]) -> Mapping[str, bytes]:
            value = await load()
            return {} if value is None else {key: value}

        return (await self.get_or_load_many([key], load_it, seconds, misses)).get(key)

    async def get_or_load_many(
        self, keys: Iterable[str], load: LoadMany, seconds: float, misses: float | None = None
    ) -> dict[str, bytes]:
        """The values of those *keys* that have one. *load* gets the keys that nobody knows, all at once.

        What *load* leaves out of its answer has none. Otherwise as :meth:`get_or_load`.
        """
        lives = _checked(seconds), seconds if misses is None else _checked(misses) if misses else 0.0
        wanted, found = dict.fromkeys(keys), Found()
        while wanted:
            others = {self._flights[key] for key in wanted if key in self._flights}
            mine = [key for key in wanted if key not in self._flights]
            if mine:
                found |= await self._fly(mine, load, lives)
            for other in others:
                await asyncio.wait([other])
                if not other.cancelled():  # else its caller was: who still wants it loads it
                    found |= {key: value for key, value in other.result().items() if key in wanted}
            wanted = dict.fromkeys(key for key in wanted if key not in found)
        return {key: value for key, value in found.items() if value is not None}

    async def close(self) -> None:
        """Free what is open."""
        await self._place.close()

    # ------------------------------------------------------------ loads

    async def _fly(self, keys: Sequence[str], load: LoadMany, lives: tuple[float, float]) -> Found:
        """What is known of *keys*, or loaded; meanwhile who asks for one of them waits for this.

        *lives*: the times to live of values, and of that there is none.
        """
        flight: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._flights |= dict.fromkeys(keys, flight)
        try:
            found = await self._known(keys)
            missing = [key for key in keys if key not in found]
            if missing:
                loaded = await load(missing)
                for one in missing:
                    found[one] = loaded.get(one)
                values = {key: _VALUE + value for key in missing if (value := found[key]) is not None}
                await self._keep(flight, values, lives[0])
                await self._keep(flight, {key: _NOTHING for key in missing if found[key] is None}, lives[1])
            flight.set_result(found)
            return found
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # perhaps nobody waits for it
            raise
        finally:
            for key in self._current(flight, keys):
                del self._flights[key]

    async def _keep(
        self, flight: asyncio.Future[Found], entries: Mapping[str, bytes], seconds: float
    ) -> None:
        """Keep those *entries* that nobody has set or deleted since their load began."""
        current = {key: entries[key] for key in self._current(flight, entries)}
        if not current or seconds <= 0:
            return
        await self._asked(lambda: self._place.set(current, seconds), None)
        late = current.keys() - set(self._current(flight, current))
        if late:  # set or deleted just now: which of the two came first is not known
            await self._asked(lambda: self._place.delete(sorted(late)), None)

    def _current(self, flight: asyncio.Future[Found], keys: Iterable[str]) -> list[str]:
        return [key for key in keys if self._flights.get(key) is flight]

    def _forget(self, keys: Iterable[str]) -> None:
        """Loads of *keys* that are under way began before what their caller says now."""
        for key in keys:
            self._flights.pop(key, None)

    # ------------------------------------------------------------ the place

    async def _known(self, keys: Collection[str]) -> Found:
        """What is known of *keys*: a value, or that there is none."""
        wanted = list(keys)
        none: list[bytes | None] = [None] * len(wanted)
        entries = await self._asked(lambda: self._place.get(wanted), none)
        return {
            key: entry[1:] if entry[:1] == _VALUE else None
            for key, entry in zip(wanted, entries, strict=True)
            if entry is not None
        }

    async def _asked(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """The answer of the place, or *otherwise* while it does not give one."""
        if self._clock() < self._away_until:
            return otherwise
        try:
            answer = await call()
        except StreamcoreError as error:
            self._away_until = self._clock() + REST
            if not self._away:
                log.warning("work goes on without its cache, which does not answer: %s", error)
            self._away = True
            return otherwise
        if self._away:
            log.info("the cache answers again")
        self._away = False
        return answer


def _checked(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise BadConfig("a time to live is a number of seconds", got=seconds, allowed="more than 0")
    return seconds
