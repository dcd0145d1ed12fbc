"""A core of its own for a program whose latency is measured; the broker, load and reader share the others.

Where all share all cores, a latency is also that of the scheduler: on two of them a program that is
nearly always at work is put aside some 700 times a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def core_of_its_own() -> Iterator[Callable[[], None] | None]:
    """While it is open this process and its children stay off one core, and the ``preexec_fn`` that it gives
    puts a new process there; None where there is one core only, or no way to say so (not on Linux)."""
    every = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    if len(every) < 2:
        yield None
        return
    first = min(every)
    _move(every - {first})
    try:
        yield lambda: os.sched_setaffinity(0, {first})
    finally:
        _move(every)


def pace() -> float:
    """Milliseconds that a loop of a million turns takes now: the machine's speed moves by half in seconds."""
    began = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return (time.perf_counter() - began) * 1000


def _move(cores: Iterable[int]) -> None:
    us = psutil.Process()
    for process in (us, *us.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)
