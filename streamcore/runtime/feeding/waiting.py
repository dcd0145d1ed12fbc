"""Waiting until a group has worked off what a replay wrote: its commits have passed the end markers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from streamcore.errors import Transient

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds."""
SAY_EVERY = 20
"""Looks."""

Ends = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> offset."""


class Groups(Protocol):
    """What of :class:`streamcore.systems.kafka_admin.KafkaAdmin` is needed here."""

    def committed(self, group: str) -> Awaitable[Mapping[tuple[str, int], int]]: ...
    def members(self, group: str) -> Awaitable[int]: ...


class GroupWait:
    """Waits for *group* to commit *ends*. ``left``: offsets still to do, by topic and partition."""

    def __init__(self, groups: Groups, group: str, starts: Ends, ends: Ends) -> None:
        self._groups, self._group, self._starts, self._ends = groups, group, starts, ends
        self.left = self._left({})
        self._members: int | None = None
        self._looks = 0

    async def done(self, stop: asyncio.Event, on_look: Callable[[], None]) -> bool:
        """True when all is committed, False when *stop* is set first. *on_look* is called at every look."""
        while not stop.is_set():
            try:
                self.left = self._left(await self._groups.committed(self._group))
                on_look()
                if not any(self.left.values()):
                    return True
                self._say(await self._groups.members(self._group))
            except Transient as error:
                log.warning("waiting for group %s: %s", self._group, error)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY)
        return False

    def _left(self, committed: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        left = {}
        for topic, ends in self._ends.items():
            for partition, end in ends.items():
                at = committed.get((topic, partition), self._starts[topic][partition])
                left[topic, partition] = max(0, end - at)
        return left

    def _say(self, members: int) -> None:
        self._looks += 1
        if members == self._members and self._looks % SAY_EVERY:
            return
        self._members = members
        rows = sum(self.left.values())
        if members:
            log.info("waiting for group %s with %d members: %d rows to do", self._group, members, rows)
        else:
            log.warning(
                "group %s has no members, nobody works on the %d rows to do; start a streamcore worker",
                self._group,
                rows,
            )
