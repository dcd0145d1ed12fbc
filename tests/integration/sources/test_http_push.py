"""Rows that others POST: taken once by their key through any fault, refused with the reason, over TLS.

The suite of unbounded sources is not for this one: nothing can be written to it while nobody reads.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import orjson
import pytest

from streamcore.errors import BadConfig
from streamcore.observability.http import ServerThread
from streamcore.sources.catalogue import open_unbounded
from streamcore.sources.http_push import Bookmark, HttpPush
from streamcore.testing.feeding import fed
from streamcore.testing.unbounded import ids_of, reading
from tests.services.native import free_ports
from tests.services.tls import certificates

TOKEN = "a-token-of-some-length"
REQUESTS, ROWS = 60, 5


def push(scheme: str = "http+listen", **options: object) -> HttpPush:
    (port,) = free_ports(1)
    query = "&".join(f"{name}={value}" for name, value in {"token": TOKEN, **options}.items())
    source = open_unbounded(f"{scheme}://127.0.0.1:{port}/orders?{query}")
    assert isinstance(source, HttpPush)
    return source


def url_of(source: HttpPush) -> str:
    return f"{'https' if source.tls else 'http'}://localhost:{source.port}/orders"


def documents(ids: range) -> bytes:
    return orjson.dumps([{"id": i, "name": f"name {i}"} for i in ids])


async def post(
    url: str, body: bytes, key: str | None = None, token: str = TOKEN, tls: ssl.SSLContext | bool = True
) -> tuple[int, dict[str, object]]:
    headers = {"Authorization": f"Bearer {token}"} | ({} if key is None else {"Idempotency-Key": key})
    session = aiohttp.ClientSession()
    async with session, session.post(url, data=body, headers=headers, ssl=tls) as answer:
        text = await answer.read()
        return answer.status, orjson.loads(text) if text.startswith(b"{") else {}


class Clients:
    """Several that send their requests until they hear that the rows are durable."""

    def __init__(self, source: HttpPush) -> None:
        self._url, self._over = url_of(source), threading.Event()
        self.told = 0

    def run(self) -> None:
        """All requests, eight at a time, each with a key of its own."""
        with ThreadPoolExecutor(8) as clients:
            list(clients.map(self._send, range(REQUESTS)))

    def _send(self, number: int) -> None:
        body = documents(range(number * ROWS, (number + 1) * ROWS))
        while not self._over.is_set():
            try:
                status, _ = asyncio.run(post(self._url, body, f"request {number}"))
            except aiohttp.ClientError:
                status = 0
            if status == 200:
                self.told += 1
                return
            time.sleep(0.01)

    def end(self) -> None:
        self._over.set()


@pytest.mark.parametrize("fault", ["none", "before", "behind", "forgetting", "polling"])
def test_each_request_is_taken_once_through_faults(tmp_path: Path, fault: str) -> None:
    source = push()
    clients = Clients(source)
    sending = threading.Thread(target=clients.run)
    sending.start()
    found = fed(source, tmp_path, REQUESTS * ROWS, fault, 20 * 60)
    clients.end()
    sending.join()
    assert sorted(found) == list(range(REQUESTS * ROWS))


async def test_a_request_that_is_known_is_answered_at_once_and_not_taken_again() -> None:
    source = push()
    with reading(source) as reader:
        lost = asyncio.ensure_future(post(url_of(source), documents(range(3)), "the same"))
        found = None
        while found is None:
            found = await asyncio.to_thread(reader.poll, 1 << 20, 0.0)
    assert (await lost)[0] == 503, "it is durable, and its client has not heard of it"
    with reading(source, found.bookmark) as heir:
        assert await post(url_of(source), documents(range(3)), "the same") == (200, {"rows": 3})
        assert await asyncio.to_thread(heir.poll, 1 << 20, 0.0) is None


async def test_what_was_polled_and_not_made_durable_is_not_known_to_one_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = push()
    reader = source.open(b"")
    first = asyncio.ensure_future(post(url_of(source), documents(range(3)), "the same"))
    while await asyncio.to_thread(reader.poll, 1 << 20, 0.0) is None:
        pass
    with monkeypatch.context() as patched:
        patched.setattr(ServerThread, "stop", lambda _: None)
        reader.close()
    assert (await first)[0] == 503
    assert (await post(url_of(source), documents(range(3)), "the same"))[0] == 503
    await asyncio.to_thread(reader.close)


@pytest.fixture
def open_one() -> Iterator[HttpPush]:
    source = push(max_body_bytes=1000)
    with reading(source):
        yield source


@pytest.mark.parametrize(
    ("body", "token", "status", "says"),
    [
        (b"[{]", TOKEN, 400, "error"),
        (b"", TOKEN, 400, "error"),
        (b"[]", TOKEN, 400, "error"),
        (b"x" * 2000, TOKEN, 413, ""),
        (b"[]", "another-token-of-some-length", 401, ""),
    ],
)
async def test_what_can_not_be_taken_is_told_at_once(
    open_one: HttpPush, body: bytes, token: str, status: int, says: str
) -> None:
    got, answer = await post(url_of(open_one), body, token=token)
    assert got == status
    assert says in answer or not says
    async with aiohttp.ClientSession() as session, session.get(url_of(open_one)) as other:
        assert other.status == 405


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"id": 1}', [1]),
        (b' [{"id": 1},\n{"id": 2}]', [1, 2]),
        (b'{"id": 1}\n{"id": 2}\n', [1, 2]),
    ],
)
async def test_rows_are_an_array_an_object_or_lines_and_durable_before_the_answer(
    body: bytes, ids: list[int]
) -> None:
    source = push()
    with reading(source) as reader:
        asked = asyncio.ensure_future(post(url_of(source), body))
        found = None
        while found is None:
            found = await asyncio.to_thread(reader.poll, 1 << 20, 0.0)
        assert [id for id, _ in ids_of(found)] == ids
        await asyncio.sleep(0.1)
        assert not asked.done()
        reader.forget(found.bookmark)
        assert await asked == (200, {"rows": len(ids)})


async def test_who_waits_when_it_ends_is_told_to_come_again() -> None:
    source = push()
    with reading(source) as reader:
        polled = asyncio.ensure_future(post(url_of(source), documents(range(3))))
        while await asyncio.to_thread(reader.poll, 1 << 20, 0.0) is None:
            pass
        queued = asyncio.ensure_future(post(url_of(source), documents(range(3))))
        await asyncio.sleep(0.3)
    assert [(await one)[0] for one in (polled, queued)] == [503, 503]


async def test_over_tls_the_server_proves_its_name() -> None:
    tls = certificates()
    source = push("https+listen", cert=tls.server, key=tls.key)
    with reading(source) as reader:
        trusted = ssl.create_default_context(cafile=str(tls.ca))
        asked = asyncio.ensure_future(post(url_of(source), documents(range(2)), tls=trusted))
        found = None
        while found is None:
            found = await asyncio.to_thread(reader.poll, 1 << 20, 0.0)
        reader.forget(found.bookmark)
        assert (await asked)[0] == 200


def test_the_last_keys_are_remembered_and_no_more() -> None:
    keys = tuple(number.to_bytes(8, "big") for number in range(20_000))
    bookmark = Bookmark(7, keys).pack()
    assert Bookmark.unpack(bookmark) == Bookmark(7, keys)
    assert Bookmark.unpack(b"") == Bookmark()
    assert len(bookmark) < 200_000


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (f"http+listen://127.0.0.1:8080?token={TOKEN}", "where to listen"),
        (f"http+listen://127.0.0.1/x?token={TOKEN}", "where to listen"),
        ("http+listen://127.0.0.1:8080/x?token=short", "less than 16"),
        ("http+listen://127.0.0.1:8080/x", "token"),
        (f"https+listen://127.0.0.1:8080/x?token={TOKEN}", "needs cert="),
        (f"https+listen://127.0.0.1:8080/x?token={TOKEN}&cert=/nowhere.pem", "can't read the certificate"),
    ],
)
def test_wrong_declarations_say_what_is_wrong_and_not_the_token(uri: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says) as refused:
        open_unbounded(uri)
    assert TOKEN not in str(refused.value)


def test_an_address_that_is_taken_is_said() -> None:
    source = push()
    with reading(source), pytest.raises(BadConfig, match="can't listen"), reading(source):
        pass
