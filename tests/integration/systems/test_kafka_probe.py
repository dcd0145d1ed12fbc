"""The probe tells wrong settings from a dead broker, on a broker with TLS and SCRAM."""

from __future__ import annotations

import asyncio

import pytest

from streamcore.errors import Permanent, Transient
from streamcore.systems.kafka import probe


def address(kafka, login: str, host: str, **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"kafka://{login}{'@' if login else ''}{host}?{query}"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_right_credentials_pass(kafka, mechanism):
    login = f"{kafka.user}:{kafka.password}"
    await probe(address(kafka, login, kafka.sasl_ssl, mechanism=mechanism, ca_file=kafka.ca_file))


async def test_plain_and_tls_listeners_pass(kafka):
    await probe(kafka.url)
    await probe(address(kafka, "", kafka.ssl, security="SSL", ca_file=kafka.ca_file))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_wrong_password_is_permanent_and_not_shown(kafka, mechanism):
    login = f"{kafka.user}:wrong-secret"
    with pytest.raises(Permanent, match="refused the credentials") as caught:
        await probe(address(kafka, login, kafka.sasl_ssl, mechanism=mechanism, ca_file=kafka.ca_file))
    assert "wrong-secret" not in str(caught.value)
    assert kafka.user in str(caught.value)


async def test_an_unknown_certificate_is_permanent(kafka):
    with pytest.raises(Permanent, match=r"certificate is not trusted.*set ca_file="):
        await probe(address(kafka, "", kafka.ssl, security="SSL"))


async def test_a_dead_broker_is_transient(kafka):
    async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Transient, match="broke the connection off"):
            await probe(f"kafka://127.0.0.1:{port}", timeout=5)
    with pytest.raises(Transient, match="no connection to the broker"):
        await probe(f"kafka://127.0.0.1:{port}", timeout=5)


async def test_a_broker_that_does_not_answer_is_transient(kafka):
    with pytest.raises(Transient):
        await probe(address(kafka, "", kafka.ssl.replace("localhost", "127.0.0.1"), security="PLAINTEXT"), 1)


async def test_one_living_broker_is_enough(kafka):
    await probe(f"kafka://127.0.0.1:1,{kafka.bootstrap}", timeout=5)
