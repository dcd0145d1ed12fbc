"""A server that takes rows by POST as a fault run's target, and keeps idempotency keys.

A request whose key it has had is answered and not taken again. A worker that is killed cuts the rows behind
its last commit anew, with other keys, so rows may come again, in their order: those repeats are folded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from tests.faults.rows import REFUSED_BY_A_CHECK
from tests.faults.targets import Positions, Seen, committed
from tests.services.native import free_ports
from tests.services.server import Server


class Taken(NamedTuple):
    """The rows of a request."""

    key: str
    ids: list[str]


class HttpServer(Server):
    """In a thread of its own. What it has taken outlives :meth:`kill`, as it would in a database."""

    variable = "TEST_HTTP_SINK"

    def __init__(self) -> None:
        super().__init__(_Life(self))
        (self.port,) = free_ports(1)
        self._loop = asyncio.new_event_loop()
        self._taken: dict[str, list[Taken]] = {}
        self._runner: web.AppRunner | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def taken(self, name: str) -> list[Taken]:
        """What was sent to ``/{name}``, in its order."""
        return list(self._taken.get(name, ()))

    def environment(self) -> dict[str, str]:
        return {}

    async def _post(self, request: web.Request) -> web.Response:
        rows = orjson.loads(await request.read())
        if any(row["n"] == REFUSED_BY_A_CHECK for row in rows):
            return web.Response(status=422)
        found = self._taken.setdefault(request.match_info["name"], [])
        new = Taken(request.headers["Idempotency-Key"], [row["id"] for row in rows])
        before = next((one for one in found if one.key == new.key), None)
        if before is None:
            found.append(new)
        elif before != new:
            return web.Response(status=500, text="one key, other rows")
        return web.Response(status=201)

    async def up(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/{name}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def down(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """In the server's own thread."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


class _Life:
    """See :class:`tests.services.server.Life`."""

    pid = 0

    def __init__(self, server: HttpServer) -> None:
        self._server = server

    def start(self) -> None:
        self._server.run(self._server.up())

    def stop(self) -> None:
        self._server.run(self._server.down())

    def kill(self) -> None:
        self.stop()

    def remove(self) -> None:
        self.stop()


def start() -> HttpServer:
    """A server of the caller's own."""
    server = HttpServer()
    server.start()
    return server


class HttpTarget:
    """A path of the server."""

    kind, folds = "http", True

    def __init__(self, server: HttpServer, bootstrap: str, name: str, topic: str) -> None:
        self._server, self._bootstrap, self._name, self._topic = server, bootstrap, name, topic
        self.go_through(server.port)

    @property
    def server_address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.port

    def go_through(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/{self._name}"

    async def prepare(self) -> None:
        """The server takes all paths."""

    async def positions(self) -> Positions:
        """The sink has none: where the group stands."""
        return await committed(self._bootstrap, self._name, self._topic)

    async def look(self) -> Seen:
        positions = await self.positions()
        ids = [name for one in self._server.taken(self._name) for name in one.ids]
        return Seen(positions, list(dict.fromkeys(ids)), exact=False)
