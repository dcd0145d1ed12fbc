"""How a partition's state is made again of its log after a take-over: how far that is, and its time left."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)
EVERY = 5.0
"""Seconds between two lines in the log."""


class Recovery:
    """The reading of the records ``[start, end)`` that a log of state held when it was taken over.

    *what* names the state and its log. Whoever reads calls :meth:`moved` behind each chunk; *clock* gives
    seconds that only grow. The time left is as if records were read as fast as those before.
    """

    def __init__(self, what: str, start: int, end: int, clock: Callable[[], float]) -> None:
        self._what, self._start, self._end, self._clock = what, start, end, clock
        self._position, self._bytes = start, 0
        self._began = self._told = clock()

    @property
    def records_left(self) -> int:
        """How many records are to be read until the state is what it was."""
        return max(self._end - self._position, 0)

    @property
    def seconds_left(self) -> float | None:
        """About how long it will still take; None when that is not known yet."""
        done = self._position - self._start
        return self._passed * self.records_left / done if done else None

    @property
    def text(self) -> str | None:
        """How far it is, for people; None when it is done."""
        if not self.records_left:
            return None
        done = self._position - self._start
        share, left = 100 * done / (self._end - self._start), "time left not known yet"
        if self.seconds_left is not None:
            left = f"about {self.seconds_left:.0f} s left"
        return f"{self._what} is made again: {share:.0f} % of {self._end - self._start} records, {left}"

    def moved(self, position: int, nbytes: int) -> None:
        """Records before *position* have been read, *nbytes* more than before."""
        if not self.records_left:
            return
        self._position, self._bytes = position, self._bytes + nbytes
        if self._clock() - self._told >= EVERY and self.records_left:
            self._told = self._clock()
            _log.info("%s, %s", self.text, self._rate)
        if not self.records_left:
            _log.info("%s is made again: %.1f s, %s", self._what, self._passed, self._rate)

    @property
    def _passed(self) -> float:
        return self._clock() - self._began

    @property
    def _rate(self) -> str:
        return f"{self._bytes / 1e6:.0f} MB at {self._bytes / 1e6 / max(self._passed, 1e-6):.0f} MB/s"
