"""A mail server as an outside system: one message handed over, over TLS.

Only here aiosmtplib is imported.

==========================================================  ==========================================
what happens                                                raised
==========================================================  ==========================================
no connection, no answer in time, an answer of 4xx          :class:`Transient`
an answer of 5xx, no STARTTLS, a certificate, all refused   :class:`Permanent` with the remedy
==========================================================  ==========================================

What the server answered is shown by its code only: some repeat what they were sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal, TypeAlias

import aiosmtplib

from streamcore.errors import Permanent, StreamcoreError, Transient
from streamcore.secrets import Secret
from streamcore.systems.tls import client_context

Security: TypeAlias = Literal["starttls", "tls", "none"]
PORTS = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over. ``seconds``: the longest wait for each answer."""

    host: str
    port: int
    security: Security = "starttls"
    user: str | None = None
    password: Secret | None = None
    ca_file: str | None = None
    seconds: float = 20.0

    @property
    def shown(self) -> str:
        """It, for messages."""
        return f"mail server {self.host}:{self.port}"


async def send_mail(server: MailServer, message: EmailMessage) -> Sequence[str]:
    """Hand *message* over to its recipients; those whom the server refused, while it took others."""
    where = server.shown
    context = None if server.security == "none" else client_context(where, ca=server.ca_file)
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.security == "tls",
        start_tls=server.security == "starttls",
        tls_context=context,
        timeout=server.seconds,
    )
    try:
        async with client:
            if server.user is not None:
                await client.login(server.user, server.password.reveal() if server.password else "")
            refused, _ = await client.send_message(message)
    except (aiosmtplib.SMTPException, OSError, asyncio.TimeoutError) as error:
        raise _translated(error, where) from None
    return list(refused)


def _translated(error: Exception, where: str) -> StreamcoreError:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = sorted({one.code for one in error.recipients})
        kind = Transient if all(code < 500 for code in codes) else Permanent
        said = ", ".join(map(str, codes))
        return kind("all recipients were refused", where=where, got=said, fix="check recipients")
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        return Permanent("user or password are refused", where=where, got=error.code, fix="check them")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        kind = Transient if error.code < 500 else Permanent
        return kind("the server refused the mail", where=where, got=error.code, fix="see the server's log")
    lacks_tls = type(error) is aiosmtplib.SMTPException and "STARTTLS" in error.message
    if lacks_tls or isinstance(error, aiosmtplib.SMTPNotSupported):
        return Permanent(
            "the server does not offer STARTTLS, or no way to log in",
            where=where,
            fix="use security: tls with port 465, or security: none on your own network",
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            text = getattr(cause, "verify_message", "") or cause.reason or "the handshake failed"
            return Permanent(f"TLS: {text}", where=where, fix="give the authority's file with ca_file")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, asyncio.TimeoutError):
        return Transient("no answer in time", where=where, fix="check server and port")
    return Transient(f"no connection ({type(error).__name__})", where=where, fix="check server and port")
