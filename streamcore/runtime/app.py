"""A topology as a Faust app: one agent a source topic takes chunks to the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faust.app import App
from faust.tables import TableManager
from faust.tables.recovery import Recovery, ServiceStopped
from yarl import URL

from streamcore.errors import Permanent
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.sink_runner import when_all_idle
from streamcore.transport.chunk_groups import ChunkGroup
from streamcore.transport.chunks import ChunkSchema, Fetches

TAKE_OVER_SECONDS = 600.0
"""For a rebalance from the seek to the sinks' positions; longer than sinks try again."""


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
    fetch_min_bytes: int = 1
    fetch_max_wait: float = 0.5
    session_timeout: float = 45.0
    url: str | None = None
    """Where this worker can be asked over HTTP, which the others of the group are told."""
    credentials: object = None
    standbys: int = 0
    """How many other workers keep the state of a partition too."""


class _Recovery(Recovery):  # type: ignore[misc]
    """Faust's recovery, in which sinks may take their time to take partitions over.

    Faust gives that ``broker_request_timeout``, and then it stops recovering without a word: nothing is
    read any more. Sinks try again for a limited time themselves; what takes even longer is an error.
    """

    async def _wait(self, coro: object, timeout: float | None = None) -> None:
        try:
            await super()._wait(coro, timeout=timeout and max(timeout, TAKE_OVER_SECONDS))
        except ServiceStopped:
            if not self.should_stop and not self.app.should_stop:
                await self.app.crash(
                    Permanent(
                        f"partitions could not be taken over within {TAKE_OVER_SECONDS:g} s",
                        fix="the cause is in the log above; the worker ends so that it can start anew",
                    )
                )
            raise


class _Tables(TableManager):  # type: ignore[misc]
    """Faust's table manager without the second that it waits for tables to be declared.

    All tables of our apps are declared before the app starts.
    """

    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        """Made when first asked for, as Faust's own one."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def build_app(pipeline: Pipeline, topics: Sequence[str], options: AppOptions) -> App:
    """The app that feeds *pipeline* from *topics*; not started.

    More agents and tables may be added to it before it starts, on other topics.
    """
    options.datadir.mkdir(parents=True, exist_ok=True)
    app = App(
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
        table_standby_replicas=max(options.standbys, 1),  # who would take over is known without standbys too
        web_enabled=False,
        **({"canonical_url": options.url} if options.url else {}),
        topic_disable_leader=True,
        topic_allow_declare=False,
        TableManager=_Tables,
    )
    app.streamcore_positions = pipeline
    if options.standbys:
        pipeline.resuming.wanted = lambda: app.assignor.assigned_standbys()
    app.streamcore_fetches = Fetches(options.fetch_max_bytes, options.fetch_min_bytes, options.fetch_max_wait)

    async def rebalanced(app: App, **_: object) -> None:
        if not app.consumer.assignment():  # with none there is no seek, and nothing else would tell
            await pipeline.assigned({})

    app.on_rebalance_complete.connect(rebalanced)

    async def read(groups: AsyncIterable[ChunkGroup]) -> None:
        async for group in groups:
            await pipeline.process(*group.chunks)
            if group.awaited:  # what is fetched while the sinks write only grows older meanwhile
                when_all_idle(pipeline.runners.values(), group.done)

    for topic in topics:
        channel = app.topic(topic, schema=ChunkSchema(grouped=True))
        _add_agent(app, f"{pipeline.graph.name}/{topic}", channel, read)
    return app


def _add_agent(app: App, name: str, channel: object, function: Callable[..., Awaitable[None]]) -> None:
    """What ``app.agent`` does, but for its look through all loaded modules, which takes 0.07 s."""
    agent = app.conf.Agent(function, name=name, app=app, channel=channel, on_error=app._on_agent_error)
    app.agents[agent.name] = agent
    app.topics.beacon.add(agent)
