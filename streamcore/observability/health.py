"""Health: is the process alive, and is it ready for its work?

*Live* means that the worker's event loop runs; a supervisor may restart what is not live. *Ready* means that
every named check passes (assigned, recovered, not stalled …); a worker that is not ready is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[], "str | None"]
"""None: the check passes. A text: why it does not, without secrets and row content."""

BEAT_SECONDS = 1.0
BLOCKED_SECONDS = 30.0
"""A batch may keep the loop for seconds; beyond this something hangs."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check; ``reason`` is None when it passed."""

    name: str
    reason: str | None

    def __str__(self) -> str:
        return f"[+] {self.name} ok" if self.reason is None else f"[-] {self.name}: {self.reason}"


_NO_CHECKS = CheckResult("started", "no check was added yet")


class Health:
    """The checks of one process.

    All methods but :meth:`live` and :meth:`ready` belong to the worker's event loop, which asks the checks at
    each beat; those two may be called from any thread and tell what the last beat found. *clock* gives
    monotonic seconds.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, blocked_after: float = BLOCKED_SECONDS
    ) -> None:
        self._clock = clock
        self._blocked_after = blocked_after
        self._last_beat = clock()
        self._checks: dict[str, Check] = {}
        self._results: tuple[CheckResult, ...] = (_NO_CHECKS,)

    def add(self, name: str, check: Check) -> None:
        """Add the check *name*, or replace it, and ask all."""
        self._checks[name] = check
        self.beat()

    def remove(self, name: str) -> None:
        """Take the check *name* away and ask the others; harmless when there is none."""
        self._checks.pop(name, None)
        self.beat()

    def beat(self) -> None:
        """Say that the event loop runs, and ask the checks.

        A check that raises has failed; its exception's text is not shown, since it may hold secrets.
        """
        self._last_beat = self._clock()
        self._results = tuple(_ask(name, check) for name, check in self._checks.items()) or (_NO_CHECKS,)

    async def keep_beating(self) -> None:
        """Beat once a second until cancelled; a task of the worker's event loop."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)

    def live(self) -> CheckResult:
        """Whether the event loop ran lately."""
        silent = self._clock() - self._last_beat
        if silent > self._blocked_after:
            return CheckResult("event loop", f"blocked for {silent:.0f} s")
        return CheckResult("event loop", None)

    def ready(self) -> list[CheckResult]:
        """The outcome of every check at the last beat, the event loop's first; ready when all passed.

        A process that has no checks yet is still starting, and not ready.
        """
        return [self.live(), *self._results]


def _ask(name: str, check: Check) -> CheckResult:
    try:
        return CheckResult(name, check())
    except Exception as error:  # noqa: BLE001 - a broken check must not hide the others
        return CheckResult(name, f"the check failed with {type(error).__name__}")
