"""A topology as a Faust app: one agent a source topic takes chunks to the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import faust
from faust.tables import TableManager
from yarl import URL

from streamcore.batch import Chunk
from streamcore.runtime.pipeline import Pipeline
from streamcore.transport.chunks import ChunkSchema


@dataclass(frozen=True, slots=True)
class AppOptions:
    """How the app joins its group. Times are in seconds, sizes in bytes."""

    broker: str | list[URL]
    group: str
    datadir: Path
    start: Literal["earliest", "latest"] = "earliest"
    instance_id: str | None = None
    commit_interval: float = 1.0
    fetch_max_bytes: int = 8 << 20
    session_timeout: float = 45.0
    credentials: object = None


class _Tables(TableManager):  # type: ignore[misc]
    """Faust's table manager without the second that it waits for tables to be declared.

    All tables of our apps are declared before the app starts.
    """

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def build_app(pipeline: Pipeline, topics: Sequence[str], options: AppOptions) -> faust.App:
    """The app that feeds *pipeline* from *topics*; not started.

    More agents and tables may be added to it before it starts, on other topics.
    """
    options.datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        options.group,
        broker=options.broker,
        broker_credentials=options.credentials,
        broker_commit_interval=options.commit_interval,
        broker_session_timeout=options.session_timeout,
        broker_heartbeat_interval=min(3.0, options.session_timeout / 3),
        consumer_auto_offset_reset=options.start,
        consumer_group_instance_id=options.instance_id,
        consumer_max_fetch_size=options.fetch_max_bytes,
        stream_buffer_maxsize=2,
        stream_wait_empty=True,
        store="memory://",
        datadir=str(options.datadir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        TableManager=_Tables,
    )
    app.streamcore_positions = pipeline
    app.streamcore_fetch_bytes = options.fetch_max_bytes

    async def read(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            await pipeline.process(chunk)

    for topic in topics:
        app.agent(app.topic(topic, schema=ChunkSchema()), name=f"{pipeline.graph.name}/{topic}")(read)
    return app
