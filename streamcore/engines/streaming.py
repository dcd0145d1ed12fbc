"""``StreamIngestionEngine``: functions that handle the messages of topics, and a way to send some.

There is no second engine: each topic is a stream of a topology whose sink hands its messages over. It runs
embedded, on a log in this process, or as a member of a consumer group on Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

import orjson
from pydantic import Field, JsonValue

from streamcore.contracts import Log
from streamcore.engines.config import EngineConfig
from streamcore.engines.handling import COLUMNS, Handler, Handling
from streamcore.engines.outbox import Outbox
from streamcore.errors import BadConfig, did_you_mean
from streamcore.runtime.kafka_app import topic_of
from streamcore.runtime.live.worker import SEGMENT_BYTES, work_embedded
from streamcore.runtime.worker import work
from streamcore.settings import Settings, load
from streamcore.systems.kafka import KafkaConnection
from streamcore.topology import Topology
from streamcore.transport.embedded_broker import RETENTION, Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.kafka_log import KafkaLog

_MESSAGE_BYTES = 512
"""What a message takes, about."""
_LEAST_FETCH = 1024


class StreamProcessingConfig(EngineConfig):
    """How messages are worked on; all fields may be left out."""

    max_workers: int = Field(1, gt=0)
    """Messages of a topic that are handled side by side; those of one key stay in their order."""
    buffer_size: int = Field(10_000, gt=0)
    """Messages of a topic that are read and wait to be handled, about; with more, reading waits."""
    batch_size: int = Field(100, gt=0)
    """Messages that are sent together at most, and that are read together, about."""
    partitions: int | None = Field(None, gt=0)
    """Make missing topics with so many partitions. Embedded they are made in any case, with one."""


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """Messages so far: ``sent`` by this engine and durable, ``handled``, ``failed`` (dead letters)."""

    sent: int
    handled: int
    failed: int


class StreamIngestionEngine:
    """Calls functions with the messages of topics.

    ::

        engine = StreamIngestionEngine()
        engine.register_message_handler("user_events", lambda message: print(message.payload))
        await engine.start()
        await engine.send_message("user_events", {"user_id": 1, "action": "login"})
        await engine.stop()

    A message that its handler raises for is a dead letter (``streamcore dlq list NAME``), and the next one
    goes on. Each is handled at least once: after a crash those behind the last commit come again, with the
    same ``message_id``.
    """

    def __init__(
        self,
        config: StreamProcessingConfig | None = None,
        *,
        broker: str | None = None,
        name: str = "stream-ingestion",
        settings: Settings | None = None,
    ) -> None:
        """*broker*: "embedded", or ``kafka://…``; None: as the settings say, which are embedded unless told
        otherwise. *name*: of the consumer group, of dead letters and of the log in ``state.dir``.
        """
        self.config, self.name = config or StreamProcessingConfig(), name
        self._broker, self._settings = broker, settings
        self._handlings: dict[str, Handling] = {}
        self._running: _Running | None = None
        self._sent = 0

    def register_message_handler(self, topic: str, handler: Handler) -> None:
        """Call *handler*, a function or an async one, with each message of *topic*. Before :meth:`start`."""
        if self._running is not None:
            raise BadConfig("the engine runs already", got=topic, fix="register handlers before start()")
        if topic in self._handlings:
            raise BadConfig("this topic has a handler", got=topic, fix="call both in one function")
        config = self.config
        self._handlings[topic] = Handling(topic, handler, config.max_workers, config.buffer_size)

    async def start(self) -> None:
        """Reach the broker and begin to handle messages; those that wait in the log come first.

        BadConfig without handlers, Permanent when the broker refuses or a topic is missing.
        """
        if self._running is not None:
            raise BadConfig("the engine runs already", got=self.name)
        if not self._handlings:
            raise BadConfig("nothing to handle", fix="register_message_handler(TOPIC, FUNCTION)")
        topology = Topology(self.name)
        for topic in self._handlings:
            handling = self._handlings[topic] = replace(self._handlings[topic], ready=asyncio.Event())
            topology.stream(topic, COLUMNS, format="raw", topic=topic).to(handling)
        settings = self._with_limits(self._settings or (await asyncio.to_thread(load)).settings)
        running = await _Running.open(topology, settings, self.config, self._count_sent)
        self._running = running
        try:
            for handling in self._handlings.values():
                await running.unless_it_ends(handling.ready.wait())
        except BaseException:
            self._running = None
            await running.close()
            raise

    async def send_message(self, topic: str, payload: JsonValue, *, key: str | None = None) -> None:
        """Append *payload*, as JSON, to *topic*; it is durable when this returns.

        Messages of one *key* go to one partition. BadConfig for what JSON can't hold, and embedded for a
        topic that nobody handles; Transient or Permanent when the broker does not take it, or when the engine
        ends while it waits for room.
        """
        running = self._there()
        if running.embedded and topic not in self._handlings:
            fix = did_you_mean(topic, self._handlings) or "register a handler for it"
            raise BadConfig("nobody handles this topic", got=topic, allowed=self._handlings, fix=fix)
        try:
            value = orjson.dumps(payload)
        except TypeError as error:
            raise BadConfig(f"the payload can't be JSON: {error}", where=topic) from None
        running.check()
        await running.outbox.send(topic, value, None if key is None else key.encode())

    async def stop(self) -> None:
        """Take no more messages, finish those that were read, commit. Others wait in the log.

        Those that are being sent get ``runtime.drain_timeout_s`` seconds, and the work as many again. Raises
        what ended the work, if something did.
        """
        running, self._running = self._there(), None
        await running.close()

    @property
    def metrics(self) -> StreamMetrics:
        """What has been done so far."""
        counts = [handling.counts for handling in self._handlings.values()]
        return StreamMetrics(self._sent, sum(c.handled for c in counts), sum(c.failed for c in counts))

    @property
    def waiting(self) -> int:
        """Messages that were read and wait for their handler, or are with it."""
        return sum(handling.counts.waiting for handling in self._handlings.values())

    def _count_sent(self, messages: int) -> None:
        self._sent += messages

    def _there(self) -> _Running:
        if self._running is None:
            raise BadConfig("the engine does not run", got=self.name, fix="await engine.start()")
        return self._running

    def _with_limits(self, settings: Settings) -> Settings:
        fetch = max(_LEAST_FETCH, self.config.batch_size * _MESSAGE_BYTES)
        changed: dict[str, object] = {
            "limits": settings.limits.model_copy(update={"fetch_max_bytes": fetch}),
            "http": settings.http.model_copy(update={"port": 0}),  # it is a part of another program
        }
        if self._broker is not None:
            changed["broker"] = type(settings.broker)(**{**dict(settings.broker), "url": self._broker})
        return settings.model_copy(update=changed)


class _Running:
    """A worker in a task, and what is appended to its topics."""

    def __init__(self, log: Log, broker: Broker | None, outbox: Outbox, drain_seconds: float) -> None:
        self._log, self._broker, self.outbox, self._drain_seconds = log, broker, outbox, drain_seconds
        self._stop = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        topology: Topology,
        settings: Settings,
        config: StreamProcessingConfig,
        sent: Callable[[int], None],
    ) -> _Running:
        """Topics made if they are to be, and the work begun. *sent* is told how many messages are durable."""
        graph = topology.freeze()
        log: Log
        if settings.broker.url == "embedded":
            folder = (settings.state.dir / topology.name).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            broker = Broker.open(f"embedded://{topology.name}{folder}", segment_bytes=SEGMENT_BYTES)
            log, partitions, how = EmbeddedLog(broker), config.partitions or 1, {RETENTION: "committed"}
        else:
            log, broker = KafkaLog(KafkaConnection.parse(settings.broker.url)), None
            partitions, how = config.partitions or 0, {}
        outbox = Outbox(log, config.batch_size, sent)
        running = cls(log, broker, outbox, settings.runtime.drain_timeout_s)
        try:
            for node in graph.sources.values() if partitions else ():
                await log.create(topic_of(node), partitions, how)
        except BaseException:
            await running._close_log()
            raise
        running._begin(
            work(topology, settings, running._stop)
            if broker is None
            else work_embedded(graph, broker, {}, settings, running._stop)
        )
        return running

    def _begin(self, task: Coroutine[object, object, None]) -> None:
        def ended(work: asyncio.Task[None]) -> None:
            self.outbox.end(None if work.cancelled() else work.exception())

        self._work = asyncio.create_task(task)
        self._work.add_done_callback(ended)

    @property
    def embedded(self) -> bool:
        return self._broker is not None

    def check(self) -> None:
        """Raise what ended the work, if something did."""
        if self._work is not None and self._work.done():
            self._work.result()

    async def unless_it_ends(self, waiting: Awaitable[object]) -> None:
        """Wait for *waiting*; raises what ends the work before that."""
        assert self._work is not None
        wanted = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait([wanted, self._work], return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                self._work.result()
        finally:
            wanted.cancel()

    async def close(self) -> None:
        """Finish what was sent and read; raises what ended the work."""
        assert self._work is not None
        try:
            await self.outbox.close(self._drain_seconds)
            self._stop.set()
            await self._work
        finally:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            await self._close_log()

    async def _close_log(self) -> None:
        try:
            await self._log.close()
        finally:
            if self._broker is not None:
                self._broker.close()
