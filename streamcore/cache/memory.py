"""Entries in the memory of this process. Of too many, those go that nobody has asked for the longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence


class MemoryPlace:
    """See :class:`streamcore.cache.contract.Place`. *clock*: seconds, which only go forth."""

    def __init__(self, entries: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = entries, clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self._clock()
        return [self._found(key, now) for key in keys]

    async def set(self, entries: Mapping[str, bytes], seconds: float) -> None:
        until = self._clock() + seconds
        for key, value in entries.items():
            self._entries[key] = until, value
            self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._entries.pop(key, None)

    async def close(self) -> None:
        self._entries.clear()

    def _found(self, key: str, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]
