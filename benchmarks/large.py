"""Memory of replays of 5 GB: ``python -m benchmarks.large [GB [SOURCE …]]``, on servers of its own.

Each source (all of ``tests.large.data`` unless named) is made, replayed in a process of its own with
decoding, a rule and a filter, and taken away again. Printed are rows a second and that process's resident
memory: before the source is opened, when a tenth has been read, and the most in each third of what follows.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.large.data import LARGE, ROW_BYTES
from tests.large.replaying import replayed

_MB = 1 << 20
_SECONDS = 1800
REDIS_ROWS = 1_000_000
"""At most: the server holds them in memory."""


def measured(name: str, rows: int, folder: Path) -> str:
    """A line of the table."""
    large = LARGE[name]
    server = importlib.import_module(f"tests.services.{large.server}").start() if large.server else None
    try:
        with large.make(server, folder, rows) as uri:
            found = replayed(uri, rows, _SECONDS)
    finally:
        if server is not None:
            server.close()
    memory = " | ".join(f"{rss / _MB:.0f}" for rss in (found.before, found.warm, *found.thirds))
    rate = found.rows / found.seconds
    return f"| {name} | {rows * ROW_BYTES / 1e9:g} | {rate:,.0f} | {memory} |"


def main(words: Sequence[str]) -> None:
    """Print the table, line by line."""
    rows = int(float(words[0] if words else 5) * 1e9 / ROW_BYTES)
    print("| source | GB | rows a second | RSS before, MB | warm | first third | second | last |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in words[1:] or LARGE:
        with tempfile.TemporaryDirectory() as folder:
            count = min(rows, REDIS_ROWS) if name == "redis" else rows
            print(measured(name, count, Path(folder)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
