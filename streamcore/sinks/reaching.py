"""Whether a sink's target can be reached, without writing to it."""

from __future__ import annotations

import time

import polars as pl

from streamcore.batch import Batch, Rejects
from streamcore.contracts import Reachable, Sink, SinkContext
from streamcore.errors import BadConfig
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog


async def reach(sink: Sink) -> None:
    """Reach the target of *sink* and log in. Raises as its writer's ``start`` does.

    BadConfig for sinks that can't be tried so: HTTP endpoints, and topics of the worker's own broker.
    """
    broker = Broker("embedded://nowhere")
    writer = sink.writer(_context(sink, broker))
    try:
        if not isinstance(writer, Reachable):
            fix = "run the topology with --limit 1, against a target for tests"
            raise BadConfig("this sink can't be tried without writing to it", got=sink.name, fix=fix)
        await writer.reach()
    finally:
        await writer.close()
        broker.close()


def _context(sink: Sink, broker: Broker) -> SinkContext:
    async def refuse(batch: Batch, rejects: Rejects) -> None:
        raise AssertionError("nothing is written")

    return SinkContext(
        topology="connect-test",
        sink=sink.name,
        columns=pl.Schema({}),
        key=(),
        event_time=None,
        clock=time.time,
        owner="connect-test",
        refuse=refuse,
        memory_limit=1 << 20,
        crash_point=lambda name: None,
        log=EmbeddedLog(broker),
    )
