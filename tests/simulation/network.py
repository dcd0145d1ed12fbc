"""Requests of simulated processes to the world outside: late, lost on the way there, or on the way back."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from streamcore.errors import Transient
from tests.simulation.loop import PROCESS, Process, VirtualLoop

T = TypeVar("T")
_APART = 1e-6
"""Seconds between two requests of one channel at least: they are served in their order."""


@dataclass
class Trouble:
    """How the network is: ``loss`` is the share of requests that fail, ``slow`` of those that take long."""

    loss: float = 0.0
    slow: float = 0.05


class Network:
    """Serves requests after a while. What a request does happens at one instant, outside of its process.

    A request of a process that died meanwhile is served nevertheless, more often than not, and so are those
    of one that stands still: what was sent is on its way.
    """

    def __init__(self, loop: VirtualLoop, dice: random.Random) -> None:
        self.loop, self.dice, self.trouble = loop, dice, Trouble()
        self._last: dict[object, float] = {}
        self.deaths: dict[Process, int] = {}
        """Processes that are to die at their n-th request, before or after it was served."""
        self.pauses: dict[Process, tuple[Callable[[object], bool], int, float]] = {}
        """Processes that are to stand still at their n-th request of such channels, for so many seconds."""
        self.stuck: dict[Process, float] = {}
        """Processes whose next append to a log of state is on its way for so long; they die meanwhile."""
        self.on_append: Callable[[str, Process | None], object] = lambda topic, process: None
        """Told of each append that was served: to which topic, and whose."""
        self.trace = hashlib.sha256()
        """Of all requests: when, and whose. Equal in two runs of a seed, or something is not of the seed."""

    def note(self, whose: str) -> None:
        """A request of *whose* is served now."""
        self.trace.update(f"{self.loop.now:.9f} {whose}\n".encode())

    def latency(self) -> float:
        """Seconds from here to there."""
        if self.dice.random() < self.trouble.slow:
            return self.dice.uniform(0.02, 0.3)
        return self.dice.uniform(0.0002, 0.003)

    async def call(self, effect: Callable[[], T], *, channel: object = None, fails: bool = True) -> T:
        """What *effect* returns or raises, done outside. Transient when the request or its reply was lost.

        Requests of one *channel* are served in their order. *fails*: whether they may be lost.
        """
        return await self.send(effect, channel=channel, fails=fails)

    def send(
        self,
        effect: Callable[[], T],
        *,
        channel: object = None,
        fails: bool = True,
        on_loss: Callable[[], object] = lambda: None,
        unheard: bool = False,
        late: float = 0.0,
    ) -> asyncio.Future[T]:
        """As :meth:`call`, without waiting. *on_loss* is called where the request would have been served.

        *unheard*: its reply is lost. *late*: it is on its way for so many seconds, and arrives.
        """
        process, future = PROCESS.get(), self.loop.create_future()
        luck = self.dice.random() if fails else 1.0
        lost, unanswered = luck < self.trouble.loss / 2 and not late, luck < self.trouble.loss or unheard
        arrives = process is None or self.dice.random() < 0.7 or late > 0  # also when its process is dead
        death = self._death(process)
        self._pause(process, channel)

        def serve() -> None:
            self.note(process.name if process is not None else "")
            if death == "before" or (process is not None and process.dead and not arrives):
                on_loss()
                return _kill(process)
            result = error = None
            if lost:
                on_loss()
            else:
                try:
                    result = effect()
                except Exception as raised:
                    error = raised
            if death == "after":
                return _kill(process)
            if lost or unanswered:
                error = Transient("the connection was lost")
            self.loop.world_later(self.latency(), reply, result, error)
            return None

        def reply(result: T, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        if process is None or not process.dead:
            self.loop.world_later(self._delay(channel) + late, serve)
        return future

    def _delay(self, channel: object) -> float:
        delay = self.latency()
        if channel is not None:
            at = max(self.loop.now + delay, self._last.get(channel, 0.0) + _APART)
            self._last[channel], delay = at, at - self.loop.now
        return delay

    def _pause(self, process: Process | None, channel: object) -> None:
        if process is None or process not in self.pauses:
            return
        kind, left, seconds = self.pauses[process]
        if not kind(channel):
            return
        self.pauses[process] = kind, left - 1, seconds
        if left <= 1:
            del self.pauses[process]
            process.pause()
            self.loop.world_later(seconds, process.go_on)

    def _death(self, process: Process | None) -> str:
        if process is None or process not in self.deaths:
            return ""
        self.deaths[process] -= 1
        if self.deaths[process] > 0:
            return ""
        del self.deaths[process]
        return self.dice.choice(["before", "after"])


def _kill(process: Process | None) -> None:
    if process is not None:
        process.kill()


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a *coroutine* that waits for nothing, except that it lets others go first."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("it waits for something")
