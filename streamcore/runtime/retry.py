"""Trying again after transient errors: exponential back-off with jitter, up to a limit of time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from streamcore.errors import Permanent, Transient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try again. All times are in seconds; *on_retry* hears of every failure."""

    initial: float = 0.2
    longest: float = 30.0
    give_up_after: float = 300.0

    async def run(
        self, what: str, call: Callable[[], Awaitable[T]], on_retry: Callable[[Transient], None]
    ) -> T:
        """The result of *call*, tried again while it raises Transient.

        Permanent, with the last cause, when nothing but failures came for ``give_up_after``.
        """
        began, pause = time.monotonic(), self.initial
        while True:
            try:
                return await call()
            except Transient as error:
                failing = time.monotonic() - began
                if failing + pause > self.give_up_after:
                    raise Permanent(
                        f"{what} failed for {failing:.0f} s: {error.what}",
                        where=error.where,
                        got=error.got,
                        fix=error.fix or "repair it and start again; nothing was lost",
                    ) from error
                on_retry(error)
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries
                pause = min(pause * 2, self.longest)
