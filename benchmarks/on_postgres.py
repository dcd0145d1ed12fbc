"""A benchmark on the PostgreSQL that the command line names, else on one of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine

from tests.services import postgres


def run(main: Callable[[str], Coroutine[None, None, None]]) -> None:
    """*main* with the server's URL."""
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
        return
    server = postgres.start()
    try:
        asyncio.run(main(server.dsn))
    finally:
        server.close()
