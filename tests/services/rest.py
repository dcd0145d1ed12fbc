"""A REST server in a thread of the test's process, which serves rows by pages and misbehaves when told.

It is real HTTP on a free port of this machine. ``/by/page``, ``/by/offset``, ``/by/cursor``, ``/by/link``,
``/by/next`` and ``/all`` serve :attr:`RestServer.rows`; ``/rows`` takes them; ``/token`` gives OAuth2 tokens.
What is in :attr:`RestServer.faults` happens to the next requests of rows, one each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]
SIZE = 180
"""Rows of a page unless it is asked for another number."""


@dataclass
class RestServer:
    """``url`` is where it is; the rest says what it does and what it was asked."""

    url: str = ""
    rows: Sequence[object] = ()
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    """Paths with queries, in the order of the requests."""
    headers: list[dict[str, str]] = field(default_factory=list)
    allowed: Callable[[web.Request], bool] = lambda request: True
    tokens: list[str] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    since: Callable[[object, str], bool] = lambda row, since: True
    """Whether a row is among those since a mark that the parameter ``since`` names."""
    etags: bool = False
    """Answers have ETags, and none that is known is sent again."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends the answers that wait."""

    def answer(self, request: web.Request) -> web.Response:
        """The rows that *request* asks for."""
        kind = request.match_info.get("kind", "all")
        there, since = self.rows, request.query.get("since")
        if since is not None:
            there = [row for row in there if self.since(row, since)]
        size = int(request.query.get("page_size", request.query.get("limit", SIZE)))
        at = {
            "page": (int(request.query.get("page", 1)) - 1) * size,
            "offset": int(request.query.get("offset", 0)),
            "cursor": int(request.query.get("cursor", "c0")[1:]),
        }.get(kind, int(request.query.get("from", 0)))
        if kind == "all":
            return _json(list(there))
        rows, end = there[at : at + size], at + size
        more = end < len(there)
        following = f"{self.url}{request.rel_url.update_query({'from': end, 'limit': size})}"
        if kind == "cursor":
            meta = {"next_cursor": f"c{end}" if more else None}
            return _json({"data": {"items": rows}, "meta": meta})
        if kind == "next":
            return _json({"results": rows, "next": following if more else None})
        response = _json(rows)
        if kind == "link" and more:
            response.headers["Link"] = f'<{following}>; rel="next", <{self.url}>; rel="first"'
        return response

    async def well(self, request: web.Request) -> web.StreamResponse:
        """Among the faults: none."""
        return self.answer(request)

    async def taken(self, request: web.Request) -> web.StreamResponse:
        """Among the faults of POSTs: none. What was sent is in :attr:`posted`."""
        self.posted.append(await request.read())
        return web.Response(status=201)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Rows that are sent."""
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        return await (self.faults.popleft() if self.faults else self.taken)(request)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A request of rows."""
        self.asked.append(request.path_qs)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.faults:
            return await self.faults.popleft()(request)
        if not self.allowed(request):
            return web.Response(status=401)
        return self._tagged(request, self.answer(request)) if self.etags else self.answer(request)

    def _tagged(self, request: web.Request, response: web.Response) -> web.Response:
        assert isinstance(response.body, bytes)
        tag = f'"{hashlib.sha256(response.body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        response.headers["ETag"] = tag
        return response

    async def token(self, request: web.Request) -> web.Response:
        """Another token each time, when client ``me`` says its secret."""
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if request.headers.get("Authorization") != "Basic bWU6czNjcmV0":
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        return web.json_response({"access_token": self.tokens[-1], "expires_in": 3600})


def _json(document: object) -> web.Response:
    return web.Response(text=json.dumps(document), content_type="application/json")


# ---------------------------------------------------------------- faults


def status(code: int, **headers: str) -> Fault:
    """An answer without rows, e.g. ``status(429, retry_after="0")``."""

    async def fault(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, headers=named, text="s3cret rows are not for messages")

    return fault


def saying(document: str, **headers: str) -> Fault:
    """*document* as the answer."""

    async def fault(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document, content_type="application/json", headers=headers)

    return fault


async def cut(request: web.Request) -> web.StreamResponse:
    """An answer that breaks off in the middle."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'[{"id": 0')
    assert request.transport is not None
    request.transport.close()
    return response


async def garbled(request: web.Request) -> web.StreamResponse:
    """A proxy's page instead of the API's."""
    return web.Response(text="<html>Please log in</html>", content_type="text/html")


def waits(server: RestServer) -> Fault:
    """No answer until the server is released."""

    async def fault(request: web.Request) -> web.StreamResponse:
        await asyncio.get_running_loop().run_in_executor(None, server.released.wait)
        return web.Response(status=503)

    return fault


# ---------------------------------------------------------------- life


@contextmanager
def rest_server() -> Iterator[RestServer]:
    """A running server; it ends with the block."""
    server = RestServer()
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/token", server.token)
    app.router.add_get("/by/{kind}", server.handle)
    app.router.add_get("/all", server.handle)
    app.router.add_post("/rows", server.post)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def begin() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    server.url = f"http://127.0.0.1:{loop.run_until_complete(begin())}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
