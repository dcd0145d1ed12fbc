"""A TCP proxy between a client and a server on this machine, which fails in the ways that networks fail."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit


def address_of(url: str) -> tuple[str, int]:
    """Host and port of *url*, which says both: what a :class:`Proxy` of its server is made of."""
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def through(url: str, port: int) -> str:
    """*url* with a proxy's *port* of this machine in place of its host; the login stays."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))


class Proxy:
    """Use as ``async with Proxy(host, port) as proxy:`` and connect to ``proxy.port`` of 127.0.0.1.

    Lives in the event loop of the test.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost_request: bytes | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.lost = 0
        """How many replies were lost on request."""

    async def __aenter__(self) -> Proxy:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections and reset the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset all open connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def lose_reply_to(self, request: bytes) -> None:
        """Pass the next client bytes that hold *request* on, and reset both sides at the answer."""
        self._lost_request = request

    def freeze(self) -> None:
        """Half-open: connections stay, nothing passes any more in either direction."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            self._writers |= {writer, far_writer}
            losing = asyncio.Event()
            for way in (
                self._requests(reader, far_writer, losing),
                self._replies(far_reader, writer, far_writer, losing),
            ):
                task = asyncio.ensure_future(way)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return
        writer.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self._lost_request is not None and self._lost_request in data:
                    self._lost_request = None
                    losing.set()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_writer: asyncio.StreamWriter,
        losing: asyncio.Event,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if losing.is_set():
                    self.lost += 1
                    writer.transport.abort()
                    far_writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        writer.close()
