"""What can go wrong with a mail server: each is an error that says what to do, in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from email.message import EmailMessage

import pytest
from aiosmtpd.smtp import SMTP

from streamcore.errors import Permanent, Transient
from streamcore.secrets import Secret
from streamcore.systems.smtp import MailServer, send_mail
from tests.integration.pipelines.servers import PASSWORD, USER, Received, mail_server
from tests.services.tls import certificates


def server_at(port: int) -> MailServer:
    ca = str(certificates().ca)
    return MailServer("localhost", port, user=USER, password=Secret(PASSWORD), ca_file=ca, seconds=20)


def mail() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@b.c", "d@e.f", "Grüße"
    made.set_content("…")
    return made


async def test_what_a_server_refuses_can_be_tried_again_or_not() -> None:
    async with mail_server() as found:
        server = server_at(found.port)
        with pytest.raises(Permanent, match="user or password are refused") as refused:
            await send_mail(replace(server, password=Secret("geheim")), mail())
        assert "geheim" not in str(refused.value)
        with pytest.raises(Permanent, match=r"TLS: .*ca_file"):
            await send_mail(replace(server, ca_file=None), mail())
        with pytest.raises(Permanent):
            await send_mail(replace(server, user=None, password=None), mail())
        found.answers += [451, 554]
        with pytest.raises(Transient, match="got 451"):
            await send_mail(server, mail())
        with pytest.raises(Permanent, match="got 554"):
            await send_mail(server, mail())
        assert found.mails == []
        assert await send_mail(server, mail()) == []
        assert found.mails[0]["Subject"] == "Grüße"


async def test_a_server_without_starttls_gets_nothing() -> None:
    received = Received()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(received, hostname="localhost"), "127.0.0.1", 0)
    with pytest.raises(Permanent, match="does not offer STARTTLS"):
        await send_mail(server_at(server.sockets[0].getsockname()[1]), mail())
    server.close()
    assert received.mails == []


async def test_a_server_that_is_away_or_silent_is_an_error_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = replace(server_at(server.sockets[0].getsockname()[1]), seconds=0.3)
    with pytest.raises(Transient, match=r"mail server localhost:.* no answer in time"):
        await asyncio.wait_for(send_mail(address, mail()), 30)
    server.close()
    await server.wait_closed()
    with pytest.raises(Transient, match="no connection"):
        await send_mail(address, mail())
