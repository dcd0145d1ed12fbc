"""HTTP push: rows that others POST here, ``http+listen://0.0.0.0:8080/orders?token=${env:TOKEN}``.

A request is answered with 200 when its rows are durable in the stream's topic, and not before: the client is
the system that keeps them until then. One that hears nothing, or 503, sends the request again. With the same
``Idempotency-Key`` it is taken once: the bookmark holds the keys of the last requests, so they are known
whatever crashed, and one that is there already is answered with 200. Without a key it may be there twice.

===========================================  ================================================
answer                                       what the client does
===========================================  ================================================
200                                          its rows are durable, forget them
400 no JSON, 413 too large, 401, 404, 405    sending it again changes nothing
503 with ``Retry-After``                     sends it again: this process ends, or is busy
===========================================  ================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
import polars as pl
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from streamcore.batch import PartitionId, RecordChunk
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.errors import BadConfig
from streamcore.formats.json_documents import elements_of, lines_of
from streamcore.observability.http import Bearer, ServerThread, listen
from streamcore.schema import Refusal
from streamcore.secrets import Secret

SHORTEST_TOKEN = 16
_NOWHERE = PartitionId("push", 0, "push")
_KEY = "Idempotency-Key"
_KEY_BYTES = 8
_MOST_KEYS = 20_000
"""Requests that are remembered: 160 kB of the bookmark, which must fit into a record."""
_WAITING_BYTES = 64 << 20
"""So much waits to be taken over; more is told to come later."""
_DURABLE_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_RETRY = {"Retry-After": "1"}


class PushOptions(BaseModel):
    """Options of an HTTP endpoint that takes rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: Secret = Field(description="Clients send it as Authorization: Bearer; 16 characters at least.")
    cert: str | None = Field(None, description="https: the PEM file of the certificate and its chain.")
    key: str | None = Field(None, description="https: the PEM file of its key.")
    max_body_bytes: int = Field(8 << 20, gt=0, description="Largest request that is taken.")


class Bookmark(NamedTuple):
    """How many requests were taken over, and the hashes of the keys of the last ones, oldest first."""

    taken: int = 0
    keys: tuple[bytes, ...] = ()

    def pack(self) -> bytes:
        """As a bookmark."""
        return self.taken.to_bytes(8, "big") + b"".join(self.keys)

    @classmethod
    def unpack(cls, bookmark: bytes) -> Bookmark:
        """What :meth:`pack` gave; b"" is the beginning."""
        keys = (bookmark[at : at + _KEY_BYTES] for at in range(8, len(bookmark), _KEY_BYTES))
        return cls(int.from_bytes(bookmark[:8], "big"), tuple(keys))


@dataclass(frozen=True)
class HttpPush:
    """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""

    uri: str
    host: str
    port: int
    path: str
    options: PushOptions = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    interval = 0.0
    abilities = UnboundedAbilities(forgets=True)

    def identity(self) -> str:
        """The path, wherever it is served: keys are known at another address too."""
        return f"push\0{self.path}"

    def columns(self) -> pl.Schema | None:
        """What will come is not known."""
        return None

    def open(self, bookmark: bytes) -> PushReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return PushReader(self, Bookmark.unpack(bookmark))


def open_push(uri: str, given: Mapping[str, object]) -> HttpPush:
    """The source of what is POSTed to *uri*. BadConfig for a wrong address, token or certificate."""
    options = PushOptions.model_validate(given)
    parts = urlsplit(uri)
    secure = parts.scheme.lower().startswith("https")
    shown = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"
    if not parts.hostname or not parts.port or not parts.path.strip("/"):
        raise BadConfig("where to listen?", where=uri, allowed=["http+listen://0.0.0.0:8080/path?token=…"])
    if len(options.token.reveal()) < SHORTEST_TOKEN:
        raise BadConfig(f"the token has less than {SHORTEST_TOKEN} characters", where=shown)
    if secure != (options.cert is not None):
        raise BadConfig("https+listen needs cert=, and only it takes one", where=shown)
    return HttpPush(shown, parts.hostname, parts.port, parts.path, options, _tls(options, shown))


def _tls(options: PushOptions, shown: str) -> ssl.SSLContext | None:
    if options.cert is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    except OSError as error:
        raise BadConfig(f"can't read the certificate: {error.strerror or error}", where=shown) from None
    return context


@dataclass(slots=True)
class _Waiting:
    """A request whose rows are not durable yet; ``told`` ends with whether they are."""

    rows: Sequence[bytes]
    size: int
    key: bytes | None
    told: asyncio.Future[bool]


class PushReader:
    """Serves while it is open. Requests come in on the server's thread and are polled on another one."""

    def __init__(self, source: HttpPush, bookmark: Bookmark) -> None:
        self._source = source
        self._taken = bookmark.taken
        self._new = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._polled: deque[tuple[int, _Waiting]] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._keys = dict.fromkeys(bookmark.keys)
        """The keys that are durable or polled, oldest first."""
        self._access = Bearer(source.options.token)
        application = web.Application(client_max_size=source.options.max_body_bytes)
        application.router.add_post(source.path, self._posted)
        self._server = ServerThread(application, listen(source.host, source.port), source.tls)
        self._server.start()

    # ------------------------------------------------------------ the reader

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        with self._new:
            if not self._queue:
                self._new.wait(_LOOK_SECONDS)
            taken: list[bytes] = []
            size = 0
            while self._queue and (not taken or size + self._queue[0].size <= max_bytes):
                request = self._queue.popleft()
                self._waiting_bytes -= request.size
                taken += request.rows
                size += request.size
                self._remember(request)
            bookmark = Bookmark(self._taken, tuple(self._keys))
        if not taken:
            return None
        return Polled(bookmark.pack(), [Taken(RecordChunk(_NOWHERE, range(len(taken)), taken))])

    def _remember(self, request: _Waiting) -> None:
        self._taken += 1
        self._polled.append((self._taken, request))
        if request.key is not None:
            self._keys[request.key] = None
            if len(self._keys) > _MOST_KEYS:
                del self._keys[next(iter(self._keys))]

    def forget(self, bookmark: bytes) -> None:
        """Answer the requests whose rows are durable."""
        durable = Bookmark.unpack(bookmark).taken
        with self._new:
            while self._polled and self._polled[0][0] <= durable:
                self._tell(self._polled.popleft()[1], True)

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`. Who waits is told to come again."""
        with self._new:
            self._closed = True
            for request in [*(one for _, one in self._polled), *self._queue]:
                self._tell(request, False)
            self._queue.clear()
            self._polled.clear()
        self._server.stop()

    def _tell(self, request: _Waiting, durable: bool) -> None:
        def tell() -> None:
            if not request.told.done():
                request.told.set_result(durable)

        self._server.loop.call_soon_threadsafe(tell)

    # ------------------------------------------------------------ the server's thread

    async def _posted(self, request: web.Request) -> web.Response:
        if not self._access(request):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        body = await request.read()
        rows = _rows_of(body)
        if isinstance(rows, Refusal):
            return web.json_response({"error": rows.message}, status=400)
        given = request.headers.get(_KEY)
        key = hashlib.sha256(given.encode()).digest()[:_KEY_BYTES] if given else None
        waiting = self._accepted(rows, len(body), key)
        if isinstance(waiting, web.Response):
            return waiting
        try:
            durable = await asyncio.wait_for(asyncio.shield(waiting.told), _DURABLE_SECONDS)
        except asyncio.TimeoutError:
            durable = False
        return _taken(len(rows)) if durable else _later("not durable yet")

    def _accepted(self, rows: Sequence[bytes], size: int, key: bytes | None) -> _Waiting | web.Response:
        """The request that waits now: this one, or the one with its key that waits already."""
        with self._new:
            if self._closed:
                # Before all else: a key that was polled and not made durable is known here.
                return _later("it ends")
            if key is not None:
                others = [*(one for _, one in self._polled), *self._queue]
                same = next((one for one in others if one.key == key), None)
                if same is not None:
                    return same
                if key in self._keys:
                    return _taken(len(rows))
            if self._waiting_bytes > _WAITING_BYTES:
                return _later("busy")
            waiting = _Waiting(rows, size, key, asyncio.get_running_loop().create_future())
            self._queue.append(waiting)
            self._waiting_bytes += size
            self._new.notify()
            return waiting


def _taken(rows: int) -> web.Response:
    return web.json_response({"rows": rows})


def _later(why: str) -> web.Response:
    return web.json_response({"error": why}, status=503, headers=_RETRY)


def _rows_of(body: bytes) -> Sequence[bytes] | Refusal:
    """The documents of a request: an array of them, one, or one a line. What each says is for the stream."""
    head = body.lstrip(b" \t\r\n")[:1]
    if head == b"[":
        return elements_of(body)
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        lines = [line for _, line in lines_of(body)]
        return lines if len(lines) > 1 else Refusal("json", "no JSON: an array, an object, or one a line")
    return [body]
