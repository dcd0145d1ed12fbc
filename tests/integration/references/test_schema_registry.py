"""Schemas of a real registry: read by id, registered by sinks, waited for while it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from streamcore.deadletter.reader import Filter, read
from streamcore.errors import Permanent, Transient
from streamcore.formats import json_schema
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.references.jobs import ask
from tests.services.kafka import KafkaServer
from tests.services.registry import RegistryServer

OBJECT = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
PLACE = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}


def record(name: str, *fields: tuple[str, object]) -> str:
    spelled = [{"name": field, "type": kind, **_default(kind)} for field, kind in fields]
    return json.dumps({"type": "record", "name": name, "fields": spelled})


def _default(kind: object) -> dict[str, None]:
    return {"default": None} if isinstance(kind, list) else {}


def message(number: int, schema: str, row: dict[str, Any]) -> bytes:
    out = io.BytesIO(b"\0" + number.to_bytes(4, "big"))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), row)
    return out.getvalue()


def ids(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"id": numbers}, schema={"id": pl.Int64})


async def post(registry: RegistryServer, subject: str, body: dict[str, object]) -> int:
    """The id of a schema that is registered by another client."""
    url = f"{registry.url}/subjects/{subject}/versions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return int((await answer.json())["id"])


async def test_schemas_come_with_those_that_they_refer_to(registry: RegistryServer) -> None:
    name = uuid4().hex[:8]
    inner = await post(registry, f"place-{name}", {"schema": json.dumps(PLACE)})
    text = record("Person", ("id", "long"), ("place", "Place"))
    refers = {"name": "Place", "subject": f"place-{name}", "version": 1}
    outer = await post(registry, f"person-{name}", {"schema": text, "references": [refers]})
    other = await post(registry, f"json-{name}", {"schema": OBJECT, "schemaType": "JSON"})
    reference = sc.SchemaRegistry(registry.url)
    rows = {row[0]: row for row in (await ask(reference, ids(inner, outer, other, 999_999))).iter_rows()}
    assert set(rows) == {inner, outer, other}, "there is no row of an id that is not known"
    assert json.loads(rows[outer][1])["name"] == "Person"
    assert [json.loads(one)["name"] for one in rows[outer][2]] == ["Place"]
    assert rows[other][1] == "", "what is no Avro can't be read as such"


async def test_a_schema_is_registered_once_and_may_not_break_what_was_before(
    registry: RegistryServer,
) -> None:
    subject, reference = f"users-{uuid4().hex[:8]}", sc.SchemaRegistry(registry.url)
    first = await reference.register(subject, record("row", ("id", ["null", "long"])))
    assert await reference.register(subject, record("row", ("id", ["null", "long"]))) == first
    assert await reference.register(subject, record("row", ("id", ["null", "long"]), ("x", ["null", "int"])))
    await backward(registry, subject)
    broken = record("row", ("id", ["null", "long"]), ("x", ["null", "boolean"]))
    with pytest.raises(Permanent, match=r"may not follow the last one.*subject="):
        await reference.register(subject, broken)
    with pytest.raises(Permanent, match="refused the schema"):
        await reference.register(f"other-{subject}", '{"type": "nonsense"}')


async def test_json_schemas_are_registered_and_columns_may_be_added(registry: RegistryServer) -> None:
    subject, reference = f"json-{uuid4().hex[:8]}", sc.SchemaRegistry(registry.url)
    small = json_schema.schema_of(pl.Schema({"id": pl.Int64}))
    first = await reference.register(subject, small, "JSON")
    assert await reference.register(subject, small, "JSON") == first
    await backward(registry, subject)
    larger = json_schema.schema_of(pl.Schema({"id": pl.Int64, "name": pl.String}))
    assert await reference.register(subject, larger, "JSON") != first
    other = json_schema.schema_of(pl.Schema({"id": pl.String, "name": pl.String}))
    with pytest.raises(Permanent, match="may not follow"):
        await reference.register(subject, other, "JSON")


async def backward(registry: RegistryServer, subject: str) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{registry.url}/config/{subject}"
        async with session.put(url, json={"compatibility": "BACKWARD"}) as answer:
            assert answer.status == 200


async def test_what_is_no_registry_or_does_not_answer_is_said(registry: RegistryServer) -> None:
    elsewhere = registry.url.replace("/apis/ccompat/v7", "/apis/nothing")
    for wrong in (elsewhere, f"{registry.url}/more"):
        with pytest.raises(Permanent, match=r"refused the request|no schema registry"):
            await ask(sc.SchemaRegistry(wrong), ids(1))
    with pytest.raises(Transient):
        await ask(sc.SchemaRegistry("http://127.0.0.1:9", seconds=2), ids(1))


class User(sc.Event):
    id: int
    name: str
    city: str | None = None


class Scene:
    """A topology that reads Avro and writes it, and a worker in this process."""

    def __init__(self, server: KafkaServer, registry: RegistryServer, folder: Path) -> None:
        self.server, self.registry, self.folder = server, registry, folder
        self.name = f"avro-{uuid4().hex[:8]}"
        self.read, self.written = f"{self.name}-in", f"{self.name}-out"
        self.log = KafkaLog(KafkaConnection.parse(server.url))

    def topology(self) -> sc.Topology:
        form = sc.Avro(sc.SchemaRegistry(self.registry.url, seconds=1))
        topology = sc.Topology(self.name)
        users = topology.stream("users", User, key="id", topic=self.read, format=form)
        users.filter("id % 2 = 0").to(sc.sinks.Topic(self.written, format=form))
        return topology

    def worker(self, stop: asyncio.Event) -> asyncio.Task[object]:
        settings = {
            "broker": {"url": self.server.url},
            "state": {"dir": self.folder / "state"},
            "http": {"port": 0},
            "runtime": {"commit_interval_s": 0.2},
            "retry": {"initial_s": 0.05, "max_s": 0.2},
        }
        return asyncio.ensure_future(work(self.topology(), Settings.model_validate(settings), stop))

    async def send(self, values: list[bytes]) -> None:
        keys = pa.array([b"%d" % number for number in range(len(values))])
        stamps = np.full(len(values), int(time.time() * 1000))
        await (await self.log.append(self.read, Records(pa.array(values), stamps, keys)))

    async def arrived(self) -> list[bytes]:
        found: list[bytes] = []
        for partition, (first, end) in (await self.log.bounds(self.written)).items():
            async for chunk in self.log.scan(self.written, partition, first, end):
                found += [value or b"" for value in chunk.values()]
        return found

    async def until_arrived(self, count: int) -> list[bytes]:
        deadline = time.monotonic() + 60
        while len(found := await self.arrived()) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} rows"
            await asyncio.sleep(0.1)
        return found


@contextlib.contextmanager
def frozen(server: RegistryServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_rows_of_a_schema_that_can_not_be_fetched_now_wait(
    kafka: KafkaServer, own_registry: RegistryServer, tmp_path: Path
) -> None:
    scene, stop = Scene(kafka, own_registry, tmp_path), asyncio.Event()
    for topic in (scene.read, scene.written):
        await scene.log.create(topic, 4, {})
    old, new = (
        record("U", ("id", "int"), ("name", "string")),
        record(
            "U",
            ("id", "long"),
            ("name", "string"),
            ("city", ["null", "string"]),
            ("unread", ["null", "long"]),
        ),
    )
    first = await post(own_registry, scene.name, {"schema": old})
    worker = scene.worker(stop)
    try:
        await scene.send([message(first, old, {"id": n, "name": f"n{n}"}) for n in range(1_000)])
        await scene.until_arrived(500)
        second = await post(own_registry, scene.name, {"schema": new})
        row = {"name": "x", "city": "Rom", "unread": 1}
        with frozen(own_registry):
            await scene.send([message(second, new, {"id": n, **row}) for n in range(1_000)])
            await scene.send([message(first, old, {"id": 0, "name": "known"}), b"\0\0\0\xff\xffx", b"{}"])
            await asyncio.sleep(2.5)
            assert not worker.done()
        values = await scene.until_arrived(1_001)
    finally:
        stop.set()
        await worker
    assert len(values) == 1_001
    numbers = {value[1:5] for value in values}
    assert len(numbers) == 1, "all rows have the one schema that the sink has registered"
    number = int.from_bytes(numbers.pop(), "big")
    (row_schema,) = (await ask(sc.SchemaRegistry(own_registry.url), ids(number)))["schema"]
    parsed = fastavro.parse_schema(json.loads(row_schema))
    rows = [fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None) for value in values]
    assert sorted(row["id"] for row in rows if row["city"] == "Rom") == list(range(0, 1_000, 2))
    letters = [letter async for letter in read(scene.log, f"{scene.name}.dead-letters", Filter())]
    assert sorted(letter.code for letter in letters) == ["framing", "schema_id"]
    await scene.log.close()


async def test_a_worker_says_that_rows_may_not_be_written_before_it_reads_any(
    kafka: KafkaServer, registry: RegistryServer, tmp_path: Path
) -> None:
    scene = Scene(kafka, registry, tmp_path)
    for topic in (scene.read, scene.written):
        await scene.log.create(topic, 1, {})
    await post(registry, f"{scene.written}-value", {"schema": record("row", ("id", "string"))})
    await backward(registry, f"{scene.written}-value")
    with pytest.raises(Permanent, match="may not follow the last one"):
        await scene.worker(asyncio.Event())
    await scene.log.close()
