"""The embedded transport in processes that are killed, and in one that is short of memory."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamcore.batch import Chunk
from streamcore.transport.embedded_broker import Broker
from tests.integration.transport.embedded_apps import collect, committed, make_app, running, until

VICTIM = [sys.executable, "-m", "tests.integration.transport.embedded_victim"]


def _kill_at_random(folder: Path, seed: int) -> dict[str, int]:
    """Run the victim, kill it somewhere in its work; the last of its promises of each kind."""
    promises = {"durable": 0, "reached": 0}
    with subprocess.Popen(
        [*VICTIM, "fill", str(folder), str(seed)], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        lines = iter(victim.stdout)
        until = None
        for line in lines:
            if not line.endswith("\n"):
                break
            kind, number = line.split()
            promises[kind] = int(number)
            until = until or time.monotonic() + random.Random(seed).random() * 1.8
            if time.monotonic() > until and victim.poll() is None:
                victim.kill()
    assert victim.returncode == -9
    return promises


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_durable_is_lost_by_kill_9_and_reading_goes_on_after_the_commit(tmp_path: Path) -> None:
    """Ten kills of one log in a row; the oracle is what the victim printed."""
    folder, held_before = tmp_path / "log", 0
    folder.mkdir()
    for seed in range(10):
        promised = _kill_at_random(folder, seed)
        broker = Broker.open(f"embedded://victim{folder}")
        topic = broker.topic("events")
        assert topic is not None
        log = topic.logs[0]
        numbers = []
        while chunk := log.read(len(numbers), 1 << 20):
            numbers += [int(v or b"") for v in chunk.values()]
        assert numbers == list(range(log.end))
        assert log.end >= promised["durable"] > held_before
        reached = committed(broker, "events").get(0, 0)
        assert promised["reached"] <= reached <= log.end
        held_before = log.end
        broker.close()

    broker = Broker.open(f"embedded://victim{folder}")
    start = committed(broker, "events")[0]
    assert start > 0
    chunks: list[Chunk] = []
    app = make_app(broker.url, tmp_path)
    collect(app, "events", chunks.append)
    async with running(app):
        await until(lambda: committed(broker, "events") == {0: held_before})
    assert [int(v or b"") for c in chunks for v in c.values()] == list(range(start, held_before))
    broker.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_memory_stays_bounded_when_the_consumer_is_slow(tmp_path: Path) -> None:
    """400 MB pass; what is held is 8 MB of log and a few chunks."""
    done = subprocess.run(
        [*VICTIM, "squeeze", str(tmp_path)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120
