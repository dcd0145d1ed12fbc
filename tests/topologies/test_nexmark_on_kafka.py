"""Nexmark through Kafka: two workers, one of them killed, give the published answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamcore.contracts import Records
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer
from tests.topologies.conftest import ROOT
from tests.topologies.nexmark_oracle import Answer, answer
from tests.topologies.nexmark_queries import FILES, STATEFUL, published, topology_of
from tests.topologies.test_nexmark import rows_of

LAST = 1_767_225_600_000 + 3 * 86_400_000
PARTITIONS = 4
STARTED = b"--- started ---\n"


class Workers:
    """A query's topology under a name of its own, on a topic of its own, and processes that work on it."""

    def __init__(self, query: str, server: KafkaServer, folder: Path) -> None:
        self.query, self.folder, self.url = query, folder, server.url
        self.name = f"nexmark-{query}-{uuid4().hex[:8]}"
        text = (ROOT / f"topologies/nexmark/{query}.py").read_text()
        stream = f'''topology.stream(
            "events", NexmarkEvent, event_time="date_time", max_lateness="4s", topic="{self.name}")'''
        text = text.replace(f'"nexmark-{query}"', f'"{self.name}"').replace("events(topology)", stream)
        text = text.replace("import events\n", "import NexmarkEvent\n")
        (folder / "query.py").write_text(text)
        self.columns = next(iter(topology_of(query).freeze().sinks.values())).columns.names()
        self.running: list[subprocess.Popen[bytes]] = []

    async def send(self) -> None:
        """All events in turn to the partitions, and then one that is of no window, which closes them."""
        log = KafkaLog(KafkaConnection.parse(self.url))
        await log.create(self.name, PARTITIONS, {"retention.ms": "-1"})
        values = _lines() + [orjson.dumps({"event": "person", "date_time": LAST})] * PARTITIONS
        stamps = np.full(len(values), int(time.time() * 1000))
        places = np.arange(len(values), dtype=np.int32) % PARTITIONS
        await (await log.append(self.name, Records(pa.array(values, pa.binary()), stamps, partitions=places)))
        await log.close()

    def start(self, crash_point: str = "") -> None:
        stderr = (self.folder / f"worker-{len(self.running)}.log").open("ab")
        stderr.write(STARTED)
        stderr.flush()
        worker = subprocess.Popen(
            [sys.executable, "-m", "streamcore.cli", "worker", "query.py", "--broker", self.url],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}",
                "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": "6",
                "STREAMCORE_HTTP__PORT": "0",
                "STREAMCORE_CRASH_POINT": crash_point,
                "STREAMCORE_STATE__SNAPSHOT_MB": "0",  # whenever it pays
                "STREAMCORE_STATE__MEMORY_MB": "0",  # all of it on disk
                "STREAMCORE_LIMITS__FETCH_MAX_BYTES": str(
                    1 << 18
                ),  # each chunk of a log is a step towards a cut
            },
            stderr=stderr,
        )
        self.running.append(worker)

    def wait_until_at_work(self) -> None:
        """Until all have taken partitions over, which a busy machine takes long to."""
        deadline = time.monotonic() + 60
        logs = [self.folder / f"worker-{number}.log" for number in range(len(self.running))]
        while time.monotonic() < deadline:
            if all(b"worker of" in log.read_bytes().rpartition(STARTED)[2] for log in logs):
                return
            time.sleep(0.2)
        raise AssertionError(f"the workers do not begin: {[log.read_text()[-2000:] for log in logs]}")

    def stop(self) -> None:
        for worker in self.running:
            worker.send_signal(signal.SIGTERM)
        for worker in self.running:
            assert worker.wait(60) == 0, [p.read_text()[-3000:] for p in self.folder.glob("*.log")]
        self.running.clear()

    def found(self) -> Answer | None:
        folder = self.folder / f"out/nexmark/{self.query}"
        if not list(folder.rglob("*.parquet")):
            return None
        return answer(rows_of(self.query, folder, self.columns))


def _lines() -> list[bytes]:
    with pa.CompressedInputStream(pa.OSFile(str(FILES["100k"])), "zstd") as stream:
        return [bytes(line) for line in stream.read().splitlines()]


async def settled(workers: Workers) -> None:
    """Let two workers finish, and stop them, until the answer is there: each round ends in a drain."""
    expected = published("100k")[workers.query]
    for _ in range(4):
        workers.start()
        workers.start()
        workers.wait_until_at_work()
        time.sleep(5)
        workers.stop()
        if workers.found() == expected:
            return
    assert workers.found() == expected


@pytest.mark.slow
@pytest.mark.parametrize("query", STATEFUL)
async def test_two_workers_one_of_them_killed_give_the_published_answer(
    query: str, kafka: KafkaServer, tmp_path: Path
) -> None:
    workers = Workers(query, kafka, tmp_path)
    await workers.send()
    workers.start()
    workers.start()
    time.sleep(5 + STATEFUL.index(query) % 4 * 0.7)  # somewhere between joining the group and the end
    killed = workers.running.pop(0)
    killed.kill()
    killed.wait()
    workers.stop()
    await settled(workers)


@pytest.mark.slow
@pytest.mark.parametrize("point", [
    "pipeline.taken_over", "state_log.confirmed", "state_log.confirmed:5", "pipeline.before_sinks:7",
    "commit.before", "commit.after:2", "files.before_seal", "files.after_seal",
    "snapshots.part_written:2", "snapshots.before_trim",
])  # fmt: skip
async def test_a_worker_that_dies_at_a_crash_point_leaves_nothing_behind(
    point: str, kafka: KafkaServer, tmp_path: Path
) -> None:
    workers = Workers("q11", kafka, tmp_path)
    await workers.send()
    workers.start(point)
    deadline = time.monotonic() + 20
    while workers.running[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    dying = workers.running[0]
    if dying.poll() is None and point.startswith("files"):
        dying.send_signal(signal.SIGTERM)  # its files are sealed when it drains
    assert dying.wait(60) == -signal.SIGKILL, "the fault did not come"
    workers.running.clear()
    await settled(workers)
