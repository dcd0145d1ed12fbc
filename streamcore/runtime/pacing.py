"""Replay at the pace of the event times: a row leaves when the clock has reached its time.

A :class:`Pacer` is the one clock of all splits and streams of a replay: the earliest first event time
is now, and from there it runs *speed* times as fast as the wall. A :class:`PacedSplit` cuts what its
split reads into small parts and hands each out when it is due; rows that come later than their time
leave with the row before them. It waits in the thread that reads, never in the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import OFFSET, Chunk, Int64s, PartitionId
from streamcore.contracts import Decoder, SplitReader
from streamcore.runtime.chunk_part import ChunkPart
from streamcore.wrapping import SplitWrapper

Seconds = npt.NDArray[np.float64]

TICK = 0.05
"""Least wait in seconds, so that rows close in time leave together."""
LONGEST = 1.0
"""Longest wait in seconds before the clock is looked at again: an earlier split may have joined."""


class Pacer:
    """The clock of a replay, in seconds of event time. Used from many threads.

    *clock* gives seconds that never go back. *sleep* waits so many seconds; :meth:`halt` must end it,
    as it ends the default.
    """

    def __init__(
        self,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._speed, self._clock = speed, clock
        self._halted = threading.Event()
        self._sleep = sleep or self._halted.wait
        self._lock = threading.Lock()
        self._base: float | None = None
        self._began = 0.0

    def halt(self) -> None:
        """End all waits now and let none begin: the replay stops, and what is still read is dropped."""
        self._halted.set()

    def go_on(self) -> None:
        """Wait again, after :meth:`halt`."""
        self._halted.clear()

    def reached(self) -> float:
        """The event time that is now; valid after the first :meth:`wait_for`."""
        assert self._base is not None
        return self._base + (self._clock() - self._began) * self._speed

    def wait_for(self, event: float) -> None:
        """Return when *event* is reached, or on :meth:`halt`. The first one that ever comes is now."""
        with self._lock:
            if self._base is None:
                self._base, self._began = event, self._clock()
            self._base = min(self._base, event)
        while not self._halted.is_set() and (left := (event - self.reached()) / self._speed) > 0:
            self._sleep(min(max(left, TICK), LONGEST))


@dataclass(frozen=True)
class PacedSplit(SplitWrapper):
    """*split*, its rows held back until *pacer* has reached their *event_time*.

    It hands out parts of the split's chunks, and *split* can be opened at ends of whole chunks only:
    it is always read from its start, and what lies before the position is skipped at once.
    """

    decoder: Decoder
    event_time: str
    pacer: Pacer
    bookmark = b""

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        """A reader of the parts from *position* on, any position that an earlier part ended at."""
        return _PacedReader(self, self.split.open(source, 0, self.split.bookmark), position)


class _PacedReader:
    def __init__(self, split: PacedSplit, reader: SplitReader, position: int) -> None:
        self._split, self._reader, self._at = split, reader, position
        self._chunk: Chunk | None = None
        self._offsets: Int64s = np.empty(0, np.int64)
        self._times: Seconds = np.empty(0)
        self._next, self._latest = 0, -np.inf

    def read(self, max_bytes: int) -> Chunk | None:
        while self._chunk is None or self._at >= self._chunk.end:
            self._chunk = self._reader.read(max_bytes)
            if self._chunk is None:
                return None
            if self._chunk.end > self._at:
                self._look_at(self._chunk)
        end = self._due(self._chunk)
        part = ChunkPart(self._chunk, self._at, end)
        self._at = end
        return part

    def close(self) -> None:
        self._reader.close()

    def _look_at(self, chunk: Chunk) -> None:
        """Remember at which position which time begins; refused records leave with those before them."""
        self._at = max(self._at, chunk.first)
        decoded = self._split.decoder.decode(chunk).frame
        offsets, places = np.unique(decoded[OFFSET].to_numpy(), return_index=True)
        times = event_seconds(decoded[self._split.event_time])[places]
        times = np.maximum.accumulate(np.append(self._latest, np.where(np.isnan(times), -np.inf, times)))
        self._latest = times[-1]
        wanted = offsets >= self._at
        self._offsets, self._times, self._next = offsets[wanted], times[1:][wanted], 0

    def _due(self, chunk: Chunk) -> int:
        """Wait for the next row; the position up to which the rows may leave."""
        count = len(self._offsets)
        if self._next == count:
            return chunk.end
        due = float(self._times[self._next])
        reached = due
        if np.isfinite(due):
            self._split.pacer.wait_for(due)
            reached = max(due, self._split.pacer.reached())
        self._next = int(self._times.searchsorted(reached, side="right"))
        return chunk.end if self._next == count else int(self._offsets[self._next])


def event_seconds(times: pl.Series) -> Seconds:
    """A stream's event times in seconds since 1970, NaN for nulls. Int64 counts milliseconds."""
    if times.dtype.is_integer():
        seconds = times.cast(pl.Float64) / 1e3
    else:
        micros = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None))).to_physical()
        seconds = micros.cast(pl.Float64) / 1e6
    return np.asarray(seconds.fill_null(np.nan).to_numpy(), np.float64)
