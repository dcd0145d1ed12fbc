"""Ctrl-C and SIGTERM as an event: the first one drains, a second one ends the process at once."""

from __future__ import annotations

import asyncio
import signal
import sys


def stop_on_signals() -> asyncio.Event:
    """An event of the running loop that the first SIGINT or SIGTERM sets."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        # Not click.echo: it would write past the live display, which stands in for sys.stderr.
        print("stopping: finishing what was begun; once more ends it at once", file=sys.stderr, flush=True)
        stop.set()

    for number in numbers:
        loop.add_signal_handler(number, first)
    return stop
