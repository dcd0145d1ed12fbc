"""Reading that keeps below a limit of memory: smaller shares from the start, and waits before it is reached.

The shares (:func:`shares`) are what bounds memory: of what is read and not yet confirmed there is never more.
The gate (:class:`MemoryGate`) looks at the whole process, which other work shares, and slows reading down; it
never stands still for good, since what takes the memory may be none of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from batch_adapters.sampling import sample
from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import Split, SplitReader
from streamcore.engines.datasets import Dataset
from streamcore.errors import BadConfig
from streamcore.settings import Settings
from streamcore.wrapping import SourceWrapper, SplitWrapper

_SOFT = 0.9
"""Share of the limit from which on reading waits."""
_TICK, _LONGEST = 0.02, 1.0
"""Seconds between two looks, and of one wait: then one more chunk is read."""
_LEAST = 64 << 20
_CHUNK, _LEAST_CHUNK = 8 << 20, 256 << 10
_LEAST_FETCH = 1024
"""Bytes; see ``limits.fetch_max_bytes``."""
_LOOKED_AT = 1000
"""Rows that say how large a row is."""


def process_memory() -> int:
    """Bytes of memory that this process has (RSS)."""
    return int(psutil.Process().memory_info().rss)


def shares(limit: int, taken: Callable[[], int] = process_memory) -> dict[str, int]:
    """``limits`` of the settings for a process of *limit* bytes.

    A quarter of what is left may be read and not yet written; the rest is for what is made of it on the way.
    BadConfig when less than 64 MiB are left.
    """
    left = limit - taken()
    if left < _LEAST:
        raise BadConfig(
            "memory_limit leaves no room: this process has as much already",
            where="memory_limit",
            got=_shown(limit),
            fix=f"give {_shown(limit - left + 2 * _LEAST)} or more",
        )
    return {
        "memory_mb": max(16, left // 4 >> 20),
        "fetch_max_bytes": max(_LEAST_CHUNK, min(_CHUNK, left // 64)),
    }


def within(settings: Settings, memory: int | None, chunk_rows: int | None, dataset: Dataset) -> Settings:
    """*settings* with limits for so much memory, and chunks of so many rows."""
    limits: dict[str, int] = {}
    if memory is not None:
        limits |= shares(memory)
    if chunk_rows is not None:
        limits["fetch_max_bytes"] = max(_LEAST_FETCH, chunk_rows * _row_bytes(dataset))
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})


def _row_bytes(dataset: Dataset) -> int:
    """What a row takes, about."""
    rows = sample(dataset.source, _LOOKED_AT).frame
    return int(rows.estimated_size()) // max(1, rows.height) + 1


def _shown(size: int) -> str:
    return f"{-(-size // 1_000_000)}MB"


@dataclass
class MemoryGate:
    """Asked before each chunk is read, from many threads. ``peak``: most bytes seen. ``waited``: seconds.

    Without a ``limit`` it only looks.
    """

    limit: int | None
    taken: Callable[[], int] = process_memory
    sleep: Callable[[float], None] = time.sleep
    peak: int = 0
    waited: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_through(self) -> None:
        """Return when there is room, or after a second."""
        waited = 0.0
        while self._full() and waited < _LONGEST:
            self.sleep(_TICK)
            waited += _TICK
        if waited:
            with self._lock:
                self.waited += waited

    def _full(self) -> bool:
        taken = self.taken()
        with self._lock:
            self.peak = max(self.peak, taken)
        return self.limit is not None and taken >= self.limit * _SOFT


@dataclass(frozen=True)
class Gated(SourceWrapper):
    """*source*, each of whose chunks passes the *gate* before it is read."""

    gate: MemoryGate

    def splits(self, wanted: int) -> Sequence[Split]:
        return [GatedSplit(split, self.gate) for split in self.source.splits(wanted)]


@dataclass(frozen=True)
class GatedSplit(SplitWrapper):
    """A split of a :class:`Gated` source."""

    gate: MemoryGate

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        return _GatedReader(self.split.open(source, position, bookmark), self.gate)


class _GatedReader:
    def __init__(self, reader: SplitReader, gate: MemoryGate) -> None:
        self._reader, self._gate = reader, gate

    def read(self, max_bytes: int) -> Chunk | None:
        self._gate.pass_through()
        return self._reader.read(max_bytes)

    def close(self) -> None:
        self._reader.close()
