"""Replays a source in a process of its own and says what its memory did: ``python -m tests.large.replaying``.

The process has the work of any replay: rows are read, decoded, checked and filtered, and what is left is
written to files. Its resident memory is sampled by a thread, mapped files included.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

_SAMPLE_SECONDS = 0.02
_WARM = 0.1
"""This share of the rows warms the process up: buffers, pools and caches have been filled once."""
_MB = 1 << 20


class Replayed(NamedTuple):
    """Memory in bytes: before the source is opened, ``warm``, and the most in each third of what follows."""

    rows: int
    seconds: float
    before: int
    warm: int
    thirds: tuple[int, int, int]

    @property
    def growth(self) -> int:
        """How much more it took at most than when it was warm."""
        return max(self.thirds) - self.warm

    @property
    def drift(self) -> int:
        """How much more it took at most in the last third than in the two before: what is flat has none."""
        return self.thirds[2] - max(self.thirds[:2])

    def __str__(self) -> str:
        mb = [f"{number / _MB:.0f}" for number in (self.before, self.warm, *self.thirds)]
        return (
            f"{self.rows:,} rows, {self.rows / self.seconds:,.0f} rows/s; RSS in MB: {mb[0]} before, "
            f"{mb[1]} warm, then at most {mb[2]}, {mb[3]}, {mb[4]}: {self.growth / _MB:+.0f}"
        )


def replayed(uri: str, rows: int, timeout: float) -> Replayed:
    """Replay the *rows* rows of *uri* in another process. AssertionError with its output when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.large.replaying", uri, str(rows), folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return Replayed(*json.loads(done.stdout.splitlines()[-1]))


class _Sampler:
    """Samples this process until :meth:`stop`, and what it is told of the rows."""

    def __init__(self) -> None:
        self._process, self._ended = psutil.Process(), threading.Event()
        self.samples: list[tuple[int, int]] = []
        """How many rows have been read, and the memory then."""
        self.rows = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.samples.append((self.rows, self.now()))

    def now(self) -> int:
        return int(self._process.memory_info().rss)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def main(uri: str, expected: int, folder: Path) -> None:
    """Print :class:`Replayed` as JSON."""
    import streamcore as sc
    from batch_adapters.catalogue import open_source
    from streamcore.progress import Progress
    from streamcore.runtime.replay import ReplayOptions, replay
    from streamcore.settings import Settings

    topology = sc.Topology("large")
    (
        topology.stream("rows", {"id": "int64", "text": "string"})
        .validate(sc.rules.range("id", min=0))
        .filter("id % 100000 = 7")
        .to(sc.sinks.Parquet(folder / "out"))
    )
    options = ReplayOptions(Settings.model_validate({"state": {"dir": folder / "state"}}))
    sampler = _Sampler()
    before, began = sampler.now(), time.perf_counter()

    def on_progress(progress: Progress) -> None:
        sampler.rows = progress.rows_in

    summary = asyncio.run(replay(topology, {"rows": open_source(uri)}, options, on_progress))
    seconds = time.perf_counter() - began
    sampler.stop()
    assert summary.progress.rows_in == expected, f"{summary.progress.rows_in} rows of {expected}"
    warm = max(rss for rows, rss in sampler.samples if rows <= expected * _WARM)
    later = [(rows, rss) for rows, rss in sampler.samples if rows > expected * _WARM]
    bounds = [expected * (_WARM + (1 - _WARM) * third / 3) for third in range(4)]
    thirds = [
        max((rss for rows, rss in later if low < rows <= high), default=0) for low, high in pairwise(bounds)
    ]
    print(json.dumps([expected, seconds, before, warm, thirds]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
