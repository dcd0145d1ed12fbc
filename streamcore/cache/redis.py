"""Entries in Redis, which processes share: strings with a time to live, under ``streamcore:cache:…``.

Redis itself bounds them, by ``maxmemory`` with a policy such as ``volatile-lru``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from streamcore.cache.contract import SECONDS
from streamcore.systems.redis import Client

PREFIX = "streamcore:cache:"


class RedisPlace:
    """See :class:`streamcore.cache.contract.Place`."""

    def __init__(self, url: str) -> None:
        self._client = Client(url, SECONDS)

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._client.values([PREFIX + key for key in keys])

    async def set(self, entries: Mapping[str, bytes], seconds: float) -> None:
        milliseconds = max(math.floor(seconds * 1000), 1)
        await self._client.put({PREFIX + key: value for key, value in entries.items()}, milliseconds)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._client.delete([PREFIX + key for key in keys])

    async def close(self) -> None:
        await self._client.close()
