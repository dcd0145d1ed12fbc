"""What makes a target of the conformance suite one whose server can go away: a proxy before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from tests.faults.proxy import Proxy, address_of, through


class AtUrl(Protocol):
    """A sink, a dataclass, with its server's address."""

    __dataclass_fields__: Any

    @property
    def url(self) -> str: ...


class Proxied:
    """Comes before the class of the target, whose ``sink`` alone goes through the proxy."""

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port."""
        raise NotImplementedError

    def go_through(self, port: int) -> None:
        """The sink reaches the server by *port* of this machine."""
        raise NotImplementedError

    async def start(self) -> None:
        await super().start()  # type: ignore[misc]
        self.proxy = Proxy(*self.server_address)
        await self.proxy.up()
        self.go_through(self.proxy.port)

    async def cut_connections(self) -> None:
        self.proxy.cut()

    async def go_down(self) -> None:
        await self.proxy.down()

    async def come_back(self) -> None:
        await self.proxy.up()

    async def close(self) -> None:
        await self.proxy.__aexit__()
        await super().close()  # type: ignore[misc]


class ProxiedUrl(Proxied):
    """The same for a sink that has its server's address in a URL."""

    sink: AtUrl

    @property
    def server_address(self) -> tuple[str, int]:
        return address_of(self.sink.url)

    def go_through(self, port: int) -> None:
        self.sink = replace(self.sink, url=through(self.sink.url, port))
