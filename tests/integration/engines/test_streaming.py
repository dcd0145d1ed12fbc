"""Messages reach their handlers, each at least once; what a handler raises for is a dead letter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from streamcore import StreamIngestionEngine, StreamProcessingConfig
from streamcore.deadletter.reader import Filter, read
from streamcore.engines.handling import Handler, HandlingWriter, Message
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_directory import Directory
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Seen:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> dict[str, bool]:
        self.messages.append(message)
        return {"processed": True}

    @property
    def payloads(self) -> list[object]:
        return [message.payload for message in self.messages]


async def test_messages_come_in_order_with_what_they_hold() -> None:
    engine, seen = StreamIngestionEngine(), Seen()
    engine.register_message_handler("user_events", seen)
    await engine.start()
    sent = [{"user_id": number, "action": "login", "tags": [None, 1.5, "ü"]} for number in range(10)]
    for payload in sent:
        await engine.send_message("user_events", payload, key=f"user-{payload['user_id']}")
    await until(lambda: len(seen.messages) == 10)
    await engine.stop()
    assert seen.payloads == sent
    first = seen.messages[0]
    assert (first.topic, first.key, first.message_id) == ("user_events", "user-0", "user_events/0/0")
    assert first.timestamp is not None


async def test_what_a_handler_raises_for_is_a_dead_letter_and_the_next_goes_on(folder: Path) -> None:
    engine, handled = StreamIngestionEngine(), list[object]()

    async def handler(message: Message) -> None:
        if message.payload == 3:
            raise ValueError(f"s3cret {message.payload}")
        handled.append(message.payload)

    engine.register_message_handler("numbers", handler)
    await engine.start()
    await asyncio.gather(*(engine.send_message("numbers", number) for number in range(8)))
    await until(lambda: engine.metrics.handled + engine.metrics.failed == 8)
    metrics = engine.metrics
    await engine.stop()
    assert handled == [0, 1, 2, 4, 5, 6, 7]
    assert (metrics.sent, metrics.handled, metrics.failed) == (8, 7, 1)
    assert engine.metrics == metrics, "they stay when it has stopped"

    broker = Broker.open(f"embedded://stream-ingestion{folder}/.streamcore/stream-ingestion")
    try:
        topic = "stream-ingestion.dead-letters"
        (letter,) = [letter async for letter in read(EmbeddedLog(broker), topic, Filter())]
    finally:
        broker.close()
    assert (letter.stage, letter.code, letter.value) == ("handler:numbers", "handler", b"3")
    assert letter.message.startswith("ValueError at ")
    assert f"{Path(__file__).name}:" in letter.message
    assert "s3cret" not in letter.message


async def test_handlers_that_are_async_without_looking_like_it_are_awaited() -> None:
    handled: list[object] = []

    class Object:
        async def __call__(self, message: Message) -> None:
            await asyncio.sleep(0)
            if message.payload == 1:
                raise ValueError
            handled.append(message.payload)

    engine, of_object = StreamIngestionEngine(), Object()
    engine.register_message_handler("objects", of_object)
    engine.register_message_handler("lambdas", lambda message: of_object(message))
    await engine.start()
    for number in range(3):
        await engine.send_message("objects", number)
        await engine.send_message("lambdas", number)
    await until(lambda: engine.metrics.handled + engine.metrics.failed == 6)
    metrics = engine.metrics
    await engine.stop()
    assert sorted(map(str, handled)) == ["0", "0", "2", "2"]
    assert (metrics.handled, metrics.failed) == (4, 2)


async def test_workers_handle_side_by_side_and_keep_the_order_of_a_key() -> None:
    config = StreamProcessingConfig(max_workers=4, batch_size=20)
    engine, seen = StreamIngestionEngine(config), Seen()
    most = now = 0

    async def handler(message: Message) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        seen(message)
        now -= 1

    engine.register_message_handler("events", handler)
    await engine.start()
    keys = ("a", "b", "c", "d", "e")
    sends = [engine.send_message("events", n, key=key) for n in range(40) for key in keys]
    await asyncio.gather(*sends)
    await until(lambda: len(seen.messages) == 200)
    await engine.stop()
    assert most > 1
    for key in keys:
        assert [m.payload for m in seen.messages if m.key == key] == list(range(40))


async def test_reading_waits_while_the_buffer_is_full() -> None:
    engine = StreamIngestionEngine(StreamProcessingConfig(buffer_size=5, batch_size=10))
    release, seen = asyncio.Event(), Seen()

    async def handler(message: Message) -> None:
        await release.wait()
        seen(message)

    engine.register_message_handler("events", handler)
    await engine.start()
    for number in range(200):
        await engine.send_message("events", number)
    await asyncio.sleep(0.3)  # it has time to read more, and does not
    waiting = engine.waiting
    release.set()
    await until(lambda: len(seen.messages) == 200)
    await engine.stop()
    assert 5 <= waiting < 60
    assert seen.payloads == list(range(200))


async def test_what_was_not_read_waits_for_the_next_start() -> None:
    first = StreamIngestionEngine(StreamProcessingConfig(buffer_size=1, batch_size=2))
    begun, release, seen = asyncio.Event(), asyncio.Event(), Seen()

    async def slow(message: Message) -> None:
        begun.set()
        await release.wait()
        await asyncio.sleep(0.02)
        seen(message)

    first.register_message_handler("events", slow)
    await first.start()
    await asyncio.gather(*(first.send_message("events", number) for number in range(200)))
    await begun.wait()
    stopping = asyncio.create_task(first.stop())
    await asyncio.sleep(0)
    release.set()
    await stopping
    assert 0 < len(seen.messages) < 200
    second = StreamIngestionEngine()
    second.register_message_handler("events", seen)
    await second.start()
    await until(lambda: len(seen.messages) == 200)
    await second.stop()
    assert seen.payloads == list(range(200))


async def test_who_waits_for_room_is_told_what_ended_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody commits any more, so nobody makes room."""
    engine, go_on = StreamIngestionEngine(StreamProcessingConfig(buffer_size=10)), asyncio.Event()

    async def handler(message: Message) -> None:
        await go_on.wait()
        raise ValueError

    async def refuse(*given: object) -> None:
        raise Permanent("dead letters can't be written")

    monkeypatch.setattr(HandlingWriter, "_refuse", refuse)
    sends = await full(engine, handler)
    go_on.set()
    answers = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 60)
    assert {type(answer) for answer in answers} == {type(None), Permanent}
    assert engine.metrics.sent == answers.count(None)
    with pytest.raises(Permanent, match="dead letters can't be written"):
        await engine.send_message("events", 1)
    with pytest.raises(Permanent, match="dead letters can't be written"):
        await asyncio.wait_for(engine.stop(), 60)


async def test_stop_waits_for_room_no_longer_than_it_may(tmp_path: Path) -> None:
    settings = Settings(runtime={"drain_timeout_s": 0.5}, state={"dir": tmp_path})
    engine, go_on = (
        StreamIngestionEngine(StreamProcessingConfig(buffer_size=10), settings=settings),
        asyncio.Event(),
    )

    async def handler(message: Message) -> None:
        await go_on.wait()

    sends = await full(engine, handler)
    with contextlib.suppress(Permanent):  # the handler hangs
        await asyncio.wait_for(engine.stop(), 60)
    answers = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 60)
    assert {type(answer) for answer in answers} == {type(None), Transient}
    assert engine.metrics.sent == answers.count(None)


async def full(engine: StreamIngestionEngine, handler: Handler) -> list[asyncio.Task[None]]:
    """*engine* at work, and what is sent to it: for more than its log has room for."""
    engine.register_message_handler("events", handler)
    await engine.start()
    assert engine._running is not None
    broker = engine._running._broker
    assert broker is not None
    broker._partition_bytes = 3000
    sends = [asyncio.create_task(engine.send_message("events", "x" * 200)) for _ in range(300)]
    await until(lambda: broker.full)
    return sends


async def test_a_start_that_fails_leaves_the_log_to_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StreamIngestionEngine()
    engine.register_message_handler("events", print)

    def create(*given: object) -> bool:
        raise Permanent("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Broker, "create", create)
        with pytest.raises(Permanent, match="disk is full"):
            await engine.start()
    Directory(folder / ".streamcore" / "stream-ingestion").close()
    await engine.start()
    await engine.stop()


PROGRAM = """
import asyncio, sys
from streamcore import StreamIngestionEngine

def handler(message):
    with open("handled", "a") as file:
        file.write(f"{message.payload}\\n")

async def main():
    engine = StreamIngestionEngine()
    engine.register_message_handler("events", handler)
    await engine.start()
    for number in map(int, sys.argv[1:]):
        await engine.send_message("events", number)
        print(number, flush=True)
    while engine.waiting or engine.metrics.handled < 1:
        await asyncio.sleep(0.05)
    await engine.stop()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["commit.before", "pipeline.before_sinks:7"])
def test_killed_no_message_that_was_sent_is_lost(folder: Path, crash: str) -> None:
    def run(crash: str, *numbers: int) -> tuple[int, list[int]]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, numbers)],
            env={**os.environ, "STREAMCORE_CRASH_POINT": crash},
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode, [int(line) for line in done.stdout.split()]

    code, sent = run(crash, *range(200))
    assert code == -9
    assert run("", 999)[0] == 0
    handled = {int(line) for line in (folder / "handled").read_text().split()}
    assert {*sent, 999} <= handled


async def test_on_kafka_by_an_address(kafka: KafkaServer) -> None:
    topic = name = f"engine-{uuid.uuid4().hex[:8]}"
    config = StreamProcessingConfig(partitions=2)
    engine, seen = StreamIngestionEngine(config, broker=kafka.url, name=name), Seen()
    engine.register_message_handler(topic, seen)
    await engine.start()
    for number in range(20):
        await engine.send_message(topic, number, key=str(number % 5))
    await until(lambda: len(seen.messages) == 20)
    await engine.stop()
    for key in map(str, range(5)):
        assert [m.payload for m in seen.messages if m.key == key] == [int(key) + 5 * n for n in range(4)]
    assert {message.partition for message in seen.messages} == {0, 1}

    log = KafkaLog(KafkaConnection.parse(kafka.url))
    try:
        assert [letter async for letter in read(log, f"{name}.dead-letters", Filter())] == []
    finally:
        await log.close()
    other = StreamIngestionEngine(broker=kafka.url, name=f"{name}-other")
    other.register_message_handler(f"{topic}-missing", seen)
    with pytest.raises(Permanent, match="there is no topic"):
        await other.start()


async def test_mistakes_are_told() -> None:
    engine = StreamIngestionEngine()
    with pytest.raises(BadConfig, match="nothing to handle"):
        await engine.start()
    with pytest.raises(BadConfig, match="does not run"):
        await engine.send_message("events", 1)
    engine.register_message_handler("events", print)
    with pytest.raises(BadConfig, match="has a handler"):
        engine.register_message_handler("events", print)
    await engine.start()
    with pytest.raises(BadConfig, match=r"got 'event'.*did you mean 'events'"):
        await engine.send_message("event", 1)
    with pytest.raises(BadConfig, match="can't be JSON"):
        await engine.send_message("events", {1, 2})  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="before start"):
        engine.register_message_handler("others", print)
    await engine.stop()
    with pytest.raises(BadConfig, match="option batch_size"):
        StreamProcessingConfig(batch_size=0)
