"""Sensors: they wait for what is not there yet, and say so."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamcore.errors import BadConfig
from streamcore.pipelines.checks import check
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.kinds.contract import TaskContext, TaskResult, TaskSkipped
from streamcore.pipelines.kinds.sensor import SensorOptions, run
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from tests.services.kafka import KafkaServer


class Waiting:
    """A sensor under way; ``said`` are the lines of its log."""

    def __init__(self, **options: Any) -> None:
        self.said: list[str] = []
        self._context = TaskContext("p", "r", "look", 1, log=self.said.append)
        given = SensorOptions.model_validate({"poll_interval": 0.02, **options})
        self.task: asyncio.Task[TaskResult] = asyncio.ensure_future(run(given, self._context))  # type: ignore[assignment]

    async def until_said(self, text: str) -> None:
        while not any(text in line for line in self.said):
            assert not self.task.done()
            await asyncio.sleep(0.01)

    async def result(self) -> TaskResult:
        return await asyncio.wait_for(self.task, 30)


async def test_a_file_is_waited_for_until_it_is_there_and_quiet(tmp_path: Path) -> None:
    sensor = Waiting(file=f"{tmp_path}/*.csv", quiet_for=30)
    await sensor.until_said("no file matches")
    file = tmp_path / "x.csv"
    file.write_text("n\n1\n")
    await asyncio.sleep(0.1)
    assert not sensor.task.done(), "it still changes"
    os.utime(file, (time.time() - 60,) * 2)
    found = await sensor.result()
    assert found.datasets == {"look": {"type": "file", "file_path": f"{tmp_path}/*.csv"}}
    assert (found.bytes, found.message) == (4, str(file))


async def test_a_row_is_waited_for(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("create table t (a int)")
    address = f"sqlite:///{tmp_path}/x.db"
    sensor = Waiting(connection_string=address, sql="select 1 from t where a = 7")
    await sensor.until_said("the query gives no row")
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("insert into t values (7)")
    assert (await sensor.result()).rows == 1


async def test_a_group_is_waited_for_until_it_has_caught_up(kafka: KafkaServer) -> None:
    topic = f"sensed-{os.urandom(4).hex()}"
    early = Waiting(broker=kafka.url, topic=topic, group=topic)
    await early.until_said(f"there is no topic {topic}")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    assert "has 0 records" in (await early.result()).message, "an empty topic leaves nothing to do"
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic, b"x")
    sensor = Waiting(broker=kafka.url, topic=topic, group=topic)
    await sensor.until_said("has 3 records")
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=topic, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.commit({TopicPartition(topic, 0): 3})
    await consumer.stop()
    assert "has 0 records" in (await sensor.result()).message


async def test_what_does_not_come_is_a_skip_when_asked(tmp_path: Path) -> None:
    with pytest.raises(TaskSkipped, match="no file matches"):
        await Waiting(file=f"{tmp_path}/none", skip_after=0.05).result()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "a sensor waits for one thing"),
        ({"file": "x", "sql": "select 1"}, "a sensor waits for one thing"),
        ({"sql": "select 1"}, "needs connection_string and sql"),
        ({"topic": "t", "group": "g"}, "needs broker, topic and group"),
    ],
)
def test_half_a_sensor_is_refused(parameters: dict[str, Any], says: str) -> None:
    task = TaskConfig(task_id="look", task_type=TaskType.SENSOR, parameters=parameters)
    with pytest.raises(BadConfig, match=says):
        check(PipelineConfig(pipeline_id="p", tasks=[task]), KINDS)
