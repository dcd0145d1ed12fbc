"""What is asked of a store for schedules. The suite: tests/conformance/test_scheduling.py.

**Who calls.** The leading scheduler, and commands. Two schedulers may believe for a while that they lead:
what must happen once is a unique row or made only from what the caller saw, so both may do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """Where a pipeline is in its schedule. ``version`` is its newest one.

    All firings up to ``position_us`` are dealt with; None: nobody has looked yet. ``paused_us``: since when
    no runs are made.
    """

    pipeline_id: str
    version: int
    position_us: int | None
    paused_us: int | None


class Scheduling(Protocol):
    """Schedules, as a part of a store."""

    async def schedules(self) -> list[ScheduleRecord]:
        """Of each registered pipeline, by id, also of those that have no schedule."""

    async def passed(self, pipeline_id: str, position_us: int, seen_us: int | None) -> bool:
        """Firings up to *position_us* are dealt with; False when the position is not *seen_us* any more."""

    async def pause(self, pipeline_id: str, now: int) -> bool:
        """No runs are made from now on; False when it is paused already."""

    async def resume(self, pipeline_id: str) -> bool:
        """Runs are made again; False when it was not paused."""
