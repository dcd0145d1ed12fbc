"""The commands on a real broker: replay into the topic, a worker, its dead letters, a clean stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer

TOPOLOGY = """
import streamcore as sc

topology = sc.Topology("NAME")
columns = {"id": "int64", "email": "string", "age": "int64"}
users = topology.stream("users", columns, key="id", topic="NAME-in")
adults = users.filter("age >= 18").validate(sc.rules.email("email"))
adults.to(sc.sinks.Topic("NAME-out", key="id", create=True, partitions=2))
"""


class Place:
    """A folder with a topology of its own name, and the commands in it, on *server*."""

    def __init__(self, server: KafkaServer, folder: Path) -> None:
        self.folder, self.name, self.url = folder, f"adults-{uuid4().hex[:8]}", server.url
        (folder / "adults.py").write_text(TOPOLOGY.replace("NAME", self.name))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "streamcore.cli", *arguments, "--broker", self.url],
            cwd=self.folder,
            env={**os.environ, "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": "6"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def document(self, *arguments: str) -> dict[str, object]:
        """What the command prints with ``--json``; it must end with 0."""
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        found: dict[str, object] = json.loads(out)
        return found

    async def values(self, topic: str) -> list[dict[str, object]]:
        """The records of *topic* as documents."""
        log = KafkaLog(KafkaConnection.parse(self.url))
        try:
            bounds = await log.bounds(topic)
            chunks = [c for p, (a, b) in bounds.items() async for c in log.scan(topic, p, a, b)]
            return [json.loads(value) for chunk in chunks for value in chunk.values() if value]
        finally:
            await log.close()

    async def make(self, topic: str) -> None:
        log = KafkaLog(KafkaConnection.parse(self.url))
        try:
            await log.create(topic, 2, {})
        finally:
            await log.close()


@pytest.fixture
def place(kafka: KafkaServer, tmp_path: Path) -> Place:
    return Place(kafka, tmp_path)


@pytest.fixture
def worker(place: Place) -> Iterator[subprocess.Popen[str]]:
    asyncio.run(place.make(f"{place.name}-in"))
    process = place.start("worker", "adults.py", "--port", "0")
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_file_goes_through_the_workers_and_its_bad_rows_to_their_dead_letters(
    place: Place, worker: subprocess.Popen[str]
) -> None:
    rows = [{"id": i, "email": f"u{i}@example.com", "age": i % 60} for i in range(1000)]
    rows += [{"id": -1, "email": "nobody", "age": 40}]
    (place.folder / "users.ndjson").write_text("\n".join(json.dumps(row) for row in rows))

    summary = place.document("replay", "adults.py", "--from", "users=users.ndjson", "--wait")
    assert (summary["status"], summary["rows_in"]) == ("finished", 1001)
    good = [row for row in rows if row["age"] >= 18 and "@" in row["email"]]
    written = asyncio.run(place.values(f"{place.name}-out"))
    assert sorted(written, key=lambda row: row["id"]) == good

    letters = place.document("dlq", "list", place.name)["dead_letters"]
    assert [letter["code"] for letter in letters] == ["email"]
    shown = place.document("dlq", "show", place.name, letters[0]["place"])
    assert json.loads(shown["record"]) == rows[-1]

    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert "Traceback" not in err


def test_a_missing_topic_is_told_in_three_lines(place: Place) -> None:
    process = place.start("worker", "adults.py", "--port", "0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-3].startswith(f"error: stream 'users': there is no topic '{place.name}-in'")
    assert err.splitlines()[-2].startswith("where: ")
    assert "adults.py:6" in err.splitlines()[-2]
