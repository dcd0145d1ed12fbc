"""A broker on disk hands out what is there for good."""

from __future__ import annotations

from pathlib import Path

from faust.types import TP

from streamcore.batch import Chunk
from streamcore.transport.embedded_broker import Broker
from tests.integration.transport.embedded_apps import collect, make_app, put, running, until


async def test_on_disk_only_durable_records_are_read(tmp_path: Path) -> None:
    """A sink may not have what comes of a record that a power loss takes back."""
    broker = Broker.open(f"embedded://durable{tmp_path}/log")
    broker.create("events", 1)
    chunks: list[Chunk] = []
    app = make_app(broker.url, tmp_path)
    collect(app, "events", chunks.append)
    try:
        async with running(app):
            put(broker, "events", range(10), 0)
            await until(lambda: sum(map(len, chunks)) == 10)
            put(broker, "events", range(10, 20), 0)
            assert app.consumer._read(TP("events", 0)) == []  # nothing has been synced since
            await until(lambda: sum(map(len, chunks)) == 20)
    finally:
        broker.close()
