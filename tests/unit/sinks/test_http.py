"""The HTTP sink against a real server: keys, retries, refused rows, what is confirmed, and what is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import orjson
import polars as pl
import pytest
from aiohttp import web

from streamcore.contracts import FlushReason, SinkWriter
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sinks.http import Http
from streamcore.testing.sink_world import (
    COLUMNS,
    ORDERS,
    OTHERS,
    World,
    batches_of,
    deliver,
    empty_batch,
    frame_of,
)
from tests.services.rest import Fault, RestServer, cut, rest_server, status

T = TypeVar("T")


@pytest.fixture
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        yield running


def run(server: RestServer, test: Callable[[World], Awaitable[T]], **options: object) -> T:
    """*test* with writers of a sink to *server*."""

    class Target:
        sink = Http(f"{server.url}/rows", **{"allow_private": True, "retries": 0, **options})  # type: ignore[arg-type]

    async def body() -> T:
        world = World(Target(), COLUMNS)  # type: ignore[arg-type]
        try:
            return await test(world)
        finally:
            for writer in world.writers:
                await writer.close()

    return asyncio.run(body())


async def opened(world: World) -> SinkWriter:
    writer = await world.writer()
    assert await writer.open({ORDERS: 0, OTHERS: 0}) == {ORDERS: 0, OTHERS: 0}
    return writer


def ids(server: RestServer) -> list[list[int]]:
    """The rows of each request that was taken."""
    return [[row["id"] for row in orjson.loads(body)] for body in server.posted]


def keys(server: RestServer) -> list[str]:
    return [headers["idempotency-key"] for headers in server.headers]


def test_rows_come_in_requests_of_at_most_so_many_in_order(server: RestServer) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        await deliver(writer, batches_of(frame_of(range(25)), [3, 4, 20], ORDERS))
        await deliver(writer, batches_of(frame_of(range(100, 103)), [], OTHERS))
        assert await writer.flush(FlushReason.IDLE) == {ORDERS: 25, OTHERS: 3}

    run(server, test, batch_rows=10)
    assert [row for request in ids(server) for row in request if row < 100] == list(range(25))
    assert all(len(request) <= 10 for request in ids(server))
    assert len(set(keys(server))) == len(server.posted)
    assert orjson.loads(server.posted[0])[1] == {"id": 1, "name": "name 1", "value": 1 / 3}
    assert server.headers[0]["content-type"] == "application/json"


def test_lines(server: RestServer) -> None:
    async def test(world: World) -> None:
        await deliver(await opened(world), batches_of(frame_of(range(2)), [], ORDERS), FlushReason.END)

    run(server, test, layout="lines")
    assert [orjson.loads(line)["id"] for line in server.posted[0].splitlines()] == [0, 1]
    assert server.headers[0]["content-type"] == "application/x-ndjson"


def test_ranges_without_rows_are_confirmed_without_a_request(server: RestServer) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        await writer.write(empty_batch(ORDERS, 0, 50))
        assert await writer.flush(FlushReason.END) == {ORDERS: 50, OTHERS: 0}

    run(server, test)
    assert not server.posted


@pytest.mark.parametrize("fault", [cut, status(503), status(429, retry_after="0"), status(409)])
def test_what_may_pass_is_sent_again_with_the_same_rows_and_key(server: RestServer, fault: Fault) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        server.faults.extend([server.taken, fault, fault])
        await deliver(writer, batches_of(frame_of(range(15)), [8], ORDERS))
        with pytest.raises(Transient):
            await writer.flush(FlushReason.END)
        more = batches_of(frame_of(range(15, 18)), [], ORDERS, first=15)
        await writer.write(more[0])
        assert await writer.flush(FlushReason.END) == {ORDERS: 18, OTHERS: 0}

    run(server, test, batch_rows=10)
    assert [row for request in ids(server) for row in request] == list(range(18))
    first, *failed, again, _ = keys(server)
    assert failed == [again, again]
    assert again != first


def test_nothing_is_taken_while_the_server_is_down_and_nothing_is_confirmed(server: RestServer) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        batch, behind = batches_of(frame_of(range(20)), [10], ORDERS)
        server.faults.extend([status(503)] * 4)
        await writer.write(batch)
        for _ in range(2):
            with pytest.raises(Transient, match="503 Service Unavailable"):
                await writer.write(behind)
        with pytest.raises(Transient):
            await writer.flush(FlushReason.IDLE)
        await writer.write(behind)
        assert await writer.flush(FlushReason.END) == {ORDERS: 20, OTHERS: 0}

    run(server, test, batch_rows=10)
    assert ids(server) == [list(range(10)), list(range(10, 20))]


def refusing(server: RestServer, bad: Sequence[int], code: int) -> Fault:
    """Refuses requests with one of the *bad* rows."""

    async def fault(request: web.Request) -> web.StreamResponse:
        server.faults.append(fault)
        if any(row["id"] in bad for row in orjson.loads(await request.read())):
            return web.Response(status=code, text="s3cret row")
        return await server.taken(request)

    return fault


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_row_that_is_refused_is_a_dead_letter_and_its_neighbours_pass(
    server: RestServer, code: int
) -> None:
    bad = [0, 7, 8, 29]

    async def test(world: World) -> None:
        writer = await opened(world)
        server.faults.append(refusing(server, bad, code))
        await deliver(writer, batches_of(frame_of(range(30)), [5, 6, 20], ORDERS))
        assert await writer.flush(FlushReason.END) == {ORDERS: 30, OTHERS: 0}
        assert world.refused == {(ORDERS, offset, 0): 1 for offset in bad}
        assert world.codes == {"http"}

    run(server, test, batch_rows=16)
    assert [row for request in ids(server) for row in request] == [i for i in range(30) if i not in bad]


@pytest.mark.parametrize(
    ("code", "remedy"), [(401, "credentials"), (403, "right"), (404, "path"), (302, "redirects")]
)
def test_what_cannot_pass_stops_the_worker(server: RestServer, code: int, remedy: str) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        server.faults.append(status(code, location="/elsewhere"))
        with pytest.raises(Permanent, match=remedy):
            await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS), FlushReason.END)

    run(server, test)


@pytest.mark.parametrize(("rows", "same"), [(1, True), (7, False)])
def test_a_run_that_cuts_elsewhere_has_the_same_keys_only_for_single_rows(
    server: RestServer, rows: int, same: bool
) -> None:
    async def test(world: World) -> None:
        for cuts in ([], [3, 12]):
            writer = await opened(world)
            for batch in batches_of(frame_of(range(20)), cuts, ORDERS):
                await deliver(writer, [batch], FlushReason.IDLE)

    run(server, test, batch_rows=rows)
    counts = [keys(server).count(key) for key in set(keys(server))]
    assert (set(counts) == {2}) is same


def test_released_partitions_are_forgotten(server: RestServer) -> None:
    async def test(world: World) -> None:
        writer = await opened(world)
        await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS))
        await deliver(writer, batches_of(frame_of(range(100, 102)), [], OTHERS))
        await writer.release([ORDERS])
        assert await writer.flush(FlushReason.END) == {OTHERS: 2}

    run(server, test)
    assert ids(server) == [[100, 101]]


def test_secrets_are_resolved_late_and_never_shown(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Http("https://me:s3cret@h/x?token=abc", api_key="k3y")
    assert sink.name == "http:https://me:***@h/x"
    assert "abc" not in repr(sink)
    assert "k3y" not in repr(sink)

    async def test(world: World) -> None:
        await deliver(await opened(world), batches_of(frame_of(range(1)), [], ORDERS), FlushReason.END)
        assert "t0ken" not in repr(world.target.sink)

    monkeypatch.setenv("API_TOKEN", "t0ken")
    run(server, test, bearer_token="${env:API_TOKEN}", headers={"X-V": "2"})
    assert server.headers[0]["authorization"] == "Bearer t0ken"
    assert server.headers[0]["x-v"] == "2"


def test_mistakes_are_found_before_a_row_is_read() -> None:
    with pytest.raises(BadConfig, match="batch_rows"):
        Http("https://h", batch_rows=0)
    with pytest.raises(BadConfig, match="no such layout"):
        Http("https://h", layout="xml")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="token_url, client_id and client_secret"):
        Http("https://h", client_id="x")
    with pytest.raises(BadConfig, match="awkward"):
        Http("https://h").check(pl.Schema({"awkward": pl.Object()}))
    with pytest.raises(BadConfig, match="anyone on the way"):
        asyncio.run(World(type("T", (), {"sink": Http("http://h", bearer_token="x")})(), COLUMNS).writer())
