"""The endpoints answer from a thread of their own, expose nothing else, and end with their context."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from streamcore.errors import BadConfig
from streamcore.observability.health import Health
from streamcore.observability.http import Bearer, Endpoint, ServerThread, listen, serving
from streamcore.observability.metrics import Metrics
from streamcore.secrets import Secret


def _get(url: str | urllib.request.Request) -> tuple[int, str]:
    """A blocking request: while it waits the test's event loop stands still."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_metrics_are_served_while_the_workers_loop_is_blocked() -> None:
    metrics = Metrics()
    metrics.rows_in.labels("flights", "flights").inc(3)
    async with serving(metrics, Health(), port=0) as url:
        status, body = _get(f"{url}/metrics")
    assert status == 200
    assert 'streamcore_rows_in_total{stream="flights",topology="flights"} 3.0' in body


async def test_ready_names_what_is_not() -> None:
    health = Health()
    health.add("assigned", lambda: None)
    health.add("recovered", lambda: "2 partitions to go")
    async with serving(Metrics(), health, port=0) as url:
        assert _get(f"{url}/readyz") == (503, "[-] recovered: 2 partitions to go\n")
        assert _get(f"{url}/readyz?verbose")[1].splitlines()[1] == "[+] assigned ok"
        health.remove("recovered")
        assert _get(f"{url}/readyz") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_live_is_told_under_both_names(path: str) -> None:
    now = [0.0]
    health = Health(clock=lambda: now[0], blocked_after=5)
    async with serving(Metrics(), health, port=0) as url:
        assert _get(url + path) == (200, "ok\n")
        now[0] = 6
        assert _get(url + path) == (503, "[-] event loop: blocked for 6 s\n")


async def test_nothing_else_is_exposed() -> None:
    async with serving(Metrics(), Health(), port=0) as url:
        for path in ("/", "/table", "/metrics/", "/healthz/../metrics2"):
            assert _get(url + path)[0] == 404


async def _secret(_: web.Request) -> web.Response:
    return web.Response(text="state")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Basic a-token-of-16-or-more", 401),
        ("Bearer ä-token-of-16-or-more", 401),
        ("Bearer a-token-of-16-or-more", 200),
        ("bearer  a-token-of-16-or-more ", 200),
    ],
)
async def test_what_is_not_for_all_is_shown_to_those_with_the_token(header, status, monkeypatch) -> None:
    monkeypatch.setenv("STATE_TOKEN", "a-token-of-16-or-more")
    state = Endpoint("/state", _secret, Bearer(Secret("${env:STATE_TOKEN}")))
    async with serving(Metrics(), Health(), port=0, more=[state]) as url:
        headers = {} if header is None else {"Authorization": header.encode("latin-1").decode("latin-1")}
        found = _get(urllib.request.Request(f"{url}/state", headers=headers))
        assert found[0] == status
        assert (found[1] == "state") == (status == 200)
        head = urllib.request.Request(f"{url}/state", headers=headers, method="HEAD")
        assert _get(head)[0] == status
        assert _get(f"{url}/metrics")[0] == 200


async def test_an_endpoint_that_does_not_say_who_may_ask_answers_nobody() -> None:
    silent = Endpoint("/state", _secret, None)  # type: ignore[arg-type]
    async with serving(Metrics(), Health(), port=0, more=[silent]) as url:
        assert _get(f"{url}/state")[0] == 403


async def test_a_busy_port_is_a_configuration_error_with_a_remedy() -> None:
    async with serving(Metrics(), Health(), port=0) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(BadConfig, match=rf"127\.0\.0\.1:{port}: can't listen.*http\.port"):
            async with serving(Metrics(), Health(), port=port):
                pass


async def test_the_port_and_the_thread_are_given_back_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        async with serving(Metrics(), Health(), port=0) as url:
            raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "streamcore-http"]
    port = int(url.rpartition(":")[2])
    async with serving(Metrics(), Health(), port=port) as again:
        assert again == url


@pytest.fixture
def nothing_collected() -> Iterator[None]:
    """What is not closed stays open: no garbage collection does it instead."""
    gc.disable()
    yield
    gc.enable()


def _at_its_end(tls: ssl.SSLContext | None, before: int) -> socket.socket:
    """A client of a server that ends while it accepts; *before*: so many turns after the accept."""
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    server = ServerThread(web.Application(), listener, tls)
    server.start()
    ready, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        ready.set()
        go_on.wait(30)

    server.loop.call_soon_threadsafe(hold)
    ready.wait(30)
    client = socket.create_connection(address, timeout=30)
    stopping = threading.Thread(target=server.stop)
    _in_turns(server.loop, before, stopping.start)
    go_on.set()
    server.join(30)
    assert not server.is_alive()
    return client


def _in_turns(loop: asyncio.AbstractEventLoop, turns: int, call: Callable[[], None]) -> None:
    if turns:
        loop.call_soon_threadsafe(_in_turns, loop, turns - 1, call)
    else:
        call()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("secure", [False, True])
def test_who_is_accepted_while_it_ends_is_not_left_to_wait(
    nothing_collected: None, secure: bool, turns: int
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if secure else None
    with _at_its_end(tls, turns) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
