"""What makes a target of the conformance suite one whose server can go away: a proxy before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from tests.faults.proxy import Proxy


class AtUrl(Protocol):
    """A sink, a dataclass, with its server's address."""

    __dataclass_fields__: Any

    @property
    def url(self) -> str: ...


class BehindProxy:
    """Comes before the class of the target, whose ``sink`` alone goes through the proxy."""

    sink: AtUrl

    async def start(self) -> None:
        await super().start()  # type: ignore[misc]
        parts = urlsplit(self.sink.url)
        self.proxy = Proxy(str(parts.hostname), int(parts.port or 0))
        await self.proxy.up()
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.proxy.port}"
        self.sink = replace(self.sink, url=urlunsplit(parts._replace(netloc=netloc)))

    async def cut_connections(self) -> None:
        self.proxy.cut()

    async def go_down(self) -> None:
        await self.proxy.down()

    async def come_back(self) -> None:
        await self.proxy.up()

    async def close(self) -> None:
        await self.proxy.__aexit__()
        await super().close()  # type: ignore[misc]
