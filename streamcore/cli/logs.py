"""The log of a topology's broker, for commands that read or append to it outside of a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamcore.errors import BadConfig

if TYPE_CHECKING:
    from streamcore.contracts import Log
    from streamcore.settings import Settings


@asynccontextmanager
async def open_log(settings: Settings, topology: str) -> AsyncIterator[Log]:
    """The log that *settings* name. BadConfig when *topology* never ran embedded in this state folder."""
    if settings.broker.url != "embedded":
        from streamcore.systems.kafka import KafkaConnection
        from streamcore.transport.kafka_log import KafkaLog

        log = KafkaLog(KafkaConnection.parse(settings.broker.url))
        try:
            yield log
        finally:
            await log.close()
        return
    from streamcore.transport.embedded_broker import Broker
    from streamcore.transport.embedded_log import EmbeddedLog

    folder = (settings.state.dir / topology).absolute()
    if not folder.is_dir():
        raise BadConfig(
            f"topology {topology!r} never ran here",
            where=str(folder),
            fix="check its name and --state-dir, or give --broker kafka://host:port",
        )
    broker = Broker.open(f"embedded://{topology}{folder}")
    try:
        yield EmbeddedLog(broker)
    finally:
        broker.close()
