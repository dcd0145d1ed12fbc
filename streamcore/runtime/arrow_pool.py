"""Where Arrow takes its memory in a process that runs a topology; see docs/decisions/0037."""

from __future__ import annotations

import os

import pyarrow as pa

CHOICE = "ARROW_DEFAULT_MEMORY_POOL"
"""Arrow's own variable; who sets it has chosen."""


def take_from_jemalloc() -> None:
    """Take Arrow's memory from jemalloc from now on, where Arrow has it and nobody has chosen.

    Arrow's default, mimalloc, keeps what a thread took for that thread: chunks are made in one and freed in
    another.
    """
    if CHOICE not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
