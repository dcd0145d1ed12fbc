"""What a place for a cache's entries does. One suite for all: :class:`streamcore.testing.caches.CacheSuite`.

**Who calls.** :class:`streamcore.cache.loading.Cache` only, from one event loop; calls may overlap.

**What a cache promises**, in whichever place it is:

- An entry is bytes under a text, and is found until its time to live is over, at the latest. It may be gone
  before that: the place is full, or was away.
- *Get or load* gives what is there, or what the caller's function returns, which is kept. Who asks for a key
  that is just being loaded gets that result: of one key this process has one load at a time.
- That there is nothing (the function returned None) is a result, and kept for a time of its own.
- An error of the function is raised to all who wait for it, and not kept.
- What was set or deleted while it was loaded stays so: the load's result goes to those who waited, and is
  not kept. Other processes may keep what they loaded before a delete, until its time to live is over.
- **A cache never fails the work.** When its place does not answer, get finds nothing, set and delete do
  nothing, and get or load loads. The log says so once, and once when it answers again. Meanwhile it is asked
  every few seconds only, so that nobody waits for it each time. A delete may be lost so: choose times to live
  that you can bear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Place(Protocol):
    """Where entries are. Each method may raise Transient or Permanent, within :data:`SECONDS` or so."""

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """What is under each of *keys*; None where there is nothing, or its time is over."""
        ...

    async def set(self, entries: Mapping[str, bytes], seconds: float) -> None:
        """Put *entries* there, for *seconds*, in place of what was there."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Take away what is under *keys*."""
        ...

    async def close(self) -> None:
        """Free what is open."""
        ...


SECONDS = 2.0
"""A place that has not answered by then is taken to be away."""
