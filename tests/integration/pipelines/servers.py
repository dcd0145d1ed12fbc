"""A mail server with STARTTLS and a login, and an HTTP server, which keep what they get."""

from __future__ import annotations

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from tests.services.tls import certificates

USER, PASSWORD = "robot", "pa$$ {word}"


@dataclass
class Post:
    """Something that was posted."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Received:
    """What a server got; ``answers`` are codes that it gives before it takes anything."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        """Of aiosmtpd: a mail came."""
        if self.answers:
            return f"{self.answers.pop(0)} not now"
        found = email.message_from_bytes(cast("bytes", envelope.content), policy=default)
        self.mails.append(cast("EmailMessage", found))
        return "250 OK"

    async def handle_post(self, request: web.Request) -> web.Response:
        """Of aiohttp: a request came."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posts.append(Post(request.path, headers, await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 204)

    async def until(self, mails: int = 0, posts: int = 0) -> None:
        """Returns when it has so many."""
        await asyncio.wait_for(self._has(mails, posts), 60)

    async def _has(self, mails: int, posts: int) -> None:
        while len(self.mails) < mails or len(self.posts) < posts:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def mail_server(port: int = 0) -> AsyncIterator[Received]:
    """Takes mail after STARTTLS and a login only."""
    received, made = Received(), certificates()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.server, made.key)

    def known(server: object, session: object, envelope: object, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.login == USER.encode()
        return AuthResult(success=right and data.password == PASSWORD.encode(), handled=False)

    def protocol() -> SMTP:
        return SMTP(
            received,
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            authenticator=known,
            auth_required=True,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    received.port = server.sockets[0].getsockname()[1]
    try:
        yield received
    finally:
        server.close()


@asynccontextmanager
async def http_server() -> AsyncIterator[Received]:
    """Takes every POST."""
    received, app = Received(), web.Application()
    app.router.add_post("/{rest:.*}", received.handle_post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    received.port = runner.addresses[0][1]
    try:
        yield received
    finally:
        await runner.cleanup()
