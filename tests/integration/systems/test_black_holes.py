"""A server that takes connections and never says a word: whoever asks it gives up in time, and names it.

All ask at the same time, so the test takes as long as the most patient of them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl
import pytest

from batch_adapters.catalogue import SYSTEMS, open_source
from batch_adapters.sampling import sample
from streamcore import references
from streamcore.contracts import FlushReason, SinkContext
from streamcore.errors import Transient
from streamcore.sinks import open_sink
from streamcore.sinks.catalogue import SYSTEMS as SINKS
from streamcore.sources.catalogue import KINDS, open_unbounded
from streamcore.systems import redis, s3_client
from streamcore.testing.sink_world import ORDERS, batches_of
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

PATIENCE = 30.0
"""Seconds; the deadlines are 10 and less, those of S3 and Redis because the test says so."""
ROWS = pl.DataFrame({"id": [1, 2]})


def source(uri: str) -> None:
    found = open_source(uri)
    found.columns()
    sample(found, 1)


def sink(uri: str) -> None:
    asyncio.run(_written(uri))


async def _written(uri: str) -> None:
    made = open_sink(uri)

    async def refuse(*_: object) -> None:
        raise AssertionError("a row is refused")

    broker = Broker("embedded://black-holes")
    context = SinkContext(
        topology="t",
        sink=made.name,
        columns=ROWS.schema,
        key=(),
        event_time=None,
        clock=time.time,
        owner="o",
        refuse=refuse,
        memory_limit=1 << 20,
        crash_point=lambda name: None,
        log=EmbeddedLog(broker),
    )
    writer = made.writer(context)
    try:
        await writer.start()
        await writer.open({ORDERS: 0})
        await writer.write(batches_of(ROWS, [], ORDERS)[0])
        await writer.flush(FlushReason.END)
    finally:
        await writer.close()
        broker.close()


def live(uri: str) -> None:
    reader = open_unbounded(uri).open(b"")
    until = time.monotonic() + PATIENCE
    try:  # a source that asks in the background has nothing at first
        while time.monotonic() < until:
            reader.poll(1 << 20, time.time())
            time.sleep(0.05)
    finally:
        reader.close()


def looked_up(reference: references.Postgres | references.Redis | references.SchemaRegistry) -> None:
    async def ask() -> None:
        reader = reference.reader(time.time)
        try:
            await reader.start()
        finally:
            await reader.close()

    asyncio.run(ask())


CASES: dict[str, Callable[[str], None]] = {
    "source postgresql": lambda at: source(f"postgresql://u:s3cret@{at}/d?table=t"),
    "source postgresql, TLS": lambda at: source(f"postgresql://u:s3cret@{at}/d?table=t&sslmode=require"),
    "source mysql": lambda at: source(f"mysql://u:s3cret@{at}/d?table=t"),
    "source mongodb": lambda at: source(f"mongodb://u:s3cret@{at}/d?collection=t"),
    "source mongodb, motor": lambda at: source(f"mongodb://u:s3cret@{at}/d?collection=t&driver=motor"),
    "source redis": lambda at: source(f"redis://:s3cret@{at}/0?stream=t&value=v"),
    "source redis, TLS": lambda at: source(f"rediss://:s3cret@{at}/0?stream=t&value=v"),
    "source kafka": lambda at: source(f"kafka://{at}/t"),
    "source rest": lambda at: source(f"http://{at}/x?allow_private=true&timeout_seconds=5&retries=0"),
    "source rest, TLS": lambda at: source(f"https://{at}/x?allow_private=true&timeout_seconds=5&retries=0"),
    "source s3": lambda at: source(f"s3://b/x.csv?endpoint=http://{at}&access_key=k&secret_key=s3cret"),
    "sink postgresql": lambda at: sink(f"postgresql://u:s3cret@{at}/d?table=t"),
    "sink mysql": lambda at: sink(f"mysql://u:s3cret@{at}/d?table=t"),
    "sink mongodb": lambda at: sink(f"mongodb://u:s3cret@{at}/d?collection=t"),
    "sink redis": lambda at: sink(f"redis://:s3cret@{at}/0?stream=t"),
    "sink kafka": lambda at: sink(f"kafka://{at}/t"),
    "sink kafka, exactly once": lambda at: sink(f"kafka://{at}/t?guarantee=exactly-once"),
    "sink s3": lambda at: sink(f"s3://b/x?format=csv&endpoint=http://{at}&access_key=k&secret_key=s3cret"),
    "sink http": lambda at: sink(f"http://{at}/x?allow_private=true&timeout_seconds=5&retries=0"),
    "live postgresql-poll": lambda at: live(f"postgresql://u:s3cret@{at}/d?table=t&poll=id"),
    "live postgresql-slot": lambda at: live(f"postgresql://u:s3cret@{at}/d?slot=s&table=t"),
    "live mysql-poll": lambda at: live(f"mysql://u:s3cret@{at}/d?table=t&poll=id"),
    "live rest-poll": lambda at: live(
        f"http://{at}/x?poll=id&since_param=since&allow_private=true&timeout_seconds=5&retries=0"
    ),
    "live mongodb-poll": lambda at: live(f"mongodb://u:s3cret@{at}/d?collection=t&poll=id"),
    "live mongodb-changes": lambda at: live(f"mongodb://u:s3cret@{at}/d?changes=t"),
    "live mongodb-poll, motor": lambda at: live(
        f"mongodb://u:s3cret@{at}/d?collection=t&poll=id&driver=motor"
    ),
    "live mongodb-changes, motor": lambda at: live(f"mongodb://u:s3cret@{at}/d?changes=t&driver=motor"),
    "live redis-stream": lambda at: live(f"redis://:s3cret@{at}/0?stream=t&value=v&group=g"),
    "lookup postgres": lambda at: looked_up(
        references.Postgres("t", key="id", columns={"id": "int64"}, url=f"postgresql://u:s3cret@{at}/d")
    ),
    "lookup redis": lambda at: looked_up(
        references.Redis("u:{id}", {"id": "int64", "n": "string"}, url=f"redis://:s3cret@{at}/0")
    ),
}


NO_SERVER = {"sqlite", "files", "sqlite-poll", "http-push"}
"""Files of this machine, and what others come to."""
SAME = {"postgres", "mariadb", "mongodb+srv", "rediss", "https"}
"""Other schemes of the same systems."""


def test_every_connector_is_asked() -> None:
    names = {name.partition(",")[0] for name in CASES}
    sources = {f"source {system.page}" for system in SYSTEMS.values() if system.page not in NO_SERVER}
    lives = {f"live {kind}" for kind in KINDS.keys() - NO_SERVER}
    sinks = {f"sink {scheme}" for scheme in SINKS.keys() - {*NO_SERVER, *SAME}}
    assert sources | lives | sinks | {"source s3", "sink s3"} == {n for n in names if "lookup" not in n}


@pytest.fixture(scope="module")
def asked() -> Iterator[dict[str, Future[tuple[float, BaseException | None]]]]:
    """How long each has waited, and what it then raised."""
    with socket.socket() as server, pytest.MonkeyPatch.context() as patch:
        server.bind(("127.0.0.1", 0))
        server.listen(512)
        patch.setattr(s3_client, "DEADLINE", 10.0)
        patch.setattr(redis, "COMMAND_SECONDS", 10.0)
        at, held = f"127.0.0.1:{server.getsockname()[1]}", list[socket.socket]()

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        executor = ThreadPoolExecutor(len(CASES))
        yield {name: executor.submit(_timed, ask, at) for name, ask in CASES.items()}
        executor.shutdown(wait=False, cancel_futures=True)
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def _timed(ask: Callable[[str], None], at: str) -> tuple[float, BaseException | None]:
    began = time.monotonic()
    try:
        ask(at)
    except BaseException as error:  # looked at by the test
        return time.monotonic() - began, error
    return time.monotonic() - began, None


@pytest.mark.parametrize("case", CASES)
def test_a_server_that_never_answers_is_an_error_with_its_name(
    case: str, asked: dict[str, Future[tuple[float, BaseException | None]]]
) -> None:
    seconds, error = asked[case].result(timeout=3 * PATIENCE)
    assert isinstance(error, Transient), repr(error)
    assert "127.0.0.1:" in str(error)
    assert "s3cret" not in str(error)
    assert seconds < PATIENCE
