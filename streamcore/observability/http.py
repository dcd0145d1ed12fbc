"""The worker's HTTP endpoints: ``/metrics``, ``/healthz`` (also ``/livez``), ``/readyz``, and those added.

Each says who may ask it; one that does not say so answers nobody.

They are served by a thread with an event loop of its own: a batch that keeps the worker's loop busy does not
delay a scrape, and a loop that hangs is reported instead of hanging the probe too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.observability.health import CheckResult, Health
from streamcore.observability.metrics import Metrics
from streamcore.secrets import Secret

_OTHER_PORT = "set another http.port (another worker may have this one), or http.port 0 to turn it off"
_TURNS = 3
"""asyncio makes the transport in one turn behind the accept, and tells the protocol of it in the next."""
Access = Callable[[web.Request], bool]
"""Whether a request may be answered. Called on the server's thread; it must not wait for anything."""


Exposition = Callable[[], Awaitable[bytes]]
"""Metrics of others in Prometheus' text format. Called on the server's thread.

It may raise StreamcoreError and TimeoutError.
"""


def anyone(_: web.Request) -> bool:
    """The access of what may be asked without a token: metrics and health."""
    return True


@dataclass(frozen=True)
class Bearer:
    """The access of those who send ``Authorization: Bearer TOKEN``. The token is read anew each time."""

    token: Secret

    def __call__(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        told = compare_digest(given.strip().encode(errors="replace"), self.token.reveal().encode())
        return told and scheme.lower() == "bearer"


@dataclass(frozen=True)
class Endpoint:
    """A path that can be asked for with GET, what answers, and who may ask."""

    path: str
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    access: Access


@contextlib.asynccontextmanager
async def serving(
    metrics: Metrics,
    health: Health,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    more: Sequence[Endpoint] = (),
    also: Exposition | None = None,
) -> AsyncIterator[str]:
    """Serve *metrics*, *health* and *more* while the context is open; gives the base URL.

    *also*: what else /metrics shows, as far as it answers. Port 0 takes a free one. The caller's event loop
    beats for *health* meanwhile.
    BadConfig when the address can't be listened on.
    """
    async with answering([*_own(metrics, health, also), *more], host, port, fix=_OTHER_PORT) as address:
        beats = asyncio.create_task(health.keep_beating(), name="health beats")
        try:
            yield address
        finally:
            beats.cancel()


@contextlib.asynccontextmanager
async def answering(endpoints: Sequence[Endpoint], host: str, port: int, *, fix: str) -> AsyncIterator[str]:
    """Serve *endpoints* while the context is open; gives the base URL. Port 0 takes a free one.

    BadConfig with *fix* when the address can't be listened on.
    """
    listener = listen(host, port, fix)
    server = ServerThread(_application(endpoints), listener)
    server.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        await asyncio.to_thread(server.stop)


def listen(host: str, port: int, fix: str = "give another port") -> socket.socket:
    """A socket that listens; BadConfig with *fix* when the address can't be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        what = f"can't listen: {error.strerror or error}"
        raise BadConfig(what, where=f"{host}:{port}", fix=fix) from error


def _own(metrics: Metrics, health: Health, also: Exposition | None) -> list[Endpoint]:
    async def show_metrics(_: web.Request) -> web.Response:
        body = metrics.exposition()
        if also is not None:
            try:
                body += await also()
            except (StreamcoreError, asyncio.TimeoutError) as error:
                body += f"# more is not known now: {type(error).__name__}\n".encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def show_live(request: web.Request) -> web.Response:
        return _verdict(request, [health.live()])

    async def show_ready(request: web.Request) -> web.Response:
        return _verdict(request, health.ready())

    shown = {"/metrics": show_metrics, "/healthz": show_live, "/livez": show_live, "/readyz": show_ready}
    return [Endpoint(path, answer, anyone) for path, answer in shown.items()]


def _application(endpoints: Sequence[Endpoint]) -> web.Application:
    accesses: dict[web.AbstractResource | None, Access] = {}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is None:
            access = accesses.get(request.match_info.route.resource)
            if access is None:
                raise web.HTTPForbidden
            if not access(request):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    application = web.Application(middlewares=[guard])
    for endpoint in endpoints:
        accesses[application.router.add_get(endpoint.path, endpoint.answer).resource] = endpoint.access
    return application


def _verdict(request: web.Request, results: list[CheckResult]) -> web.Response:
    """200 and "ok", or 503 and the failed checks; with ``?verbose`` all checks."""
    failed = [result for result in results if result.reason is not None]
    lines = [str(result) for result in (results if "verbose" in request.query else failed)]
    return web.Response(status=503 if failed else 200, text="\n".join(lines or ["ok"]) + "\n")


async def _turns() -> None:
    """Let the loop turn until a connection that it accepted just now is one that the server knows of."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class ServerThread(threading.Thread):
    """The thread that serves *application* at *listener*; a daemon, so that it can't keep a dying process
    alive. ``loop`` is its event loop."""

    def __init__(
        self, application: web.Application, listener: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(name="streamcore-http", daemon=True)
        self._application = application
        self._listener, self._tls = listener, tls
        self.loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()

    def run(self) -> None:
        with contextlib.closing(self.loop):
            self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        runner = web.AppRunner(self._application, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, self._listener, ssl_context=self._tls).start()
        try:
            await self._stopped.wait()
        finally:
            # A server that is closed forgets who was accepted in the last turn, and never answers them.
            self.loop.remove_reader(self._listener)
            await _turns()
            await runner.cleanup()
            await self._refuse_strangers()

    async def _refuse_strangers(self) -> None:
        """Close what was accepted and is not the server's yet, in the middle of a TLS handshake.

        Left to the garbage collection, its client would wait for it.
        """
        strangers = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        for task in strangers:
            task.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
        await _turns()

    def stop(self) -> None:
        """End the thread and wait for it; called from another thread."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self.join()
