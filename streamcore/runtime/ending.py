"""Ending tasks that may not hear the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* until all have ended.

    Again and again, since a cancellation may be swallowed: by wait_for before Python 3.12, and by an
    aiokafka consumer that is being stopped.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)
