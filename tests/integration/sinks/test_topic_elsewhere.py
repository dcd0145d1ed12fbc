"""An embedded replay that writes to a topic of a Kafka cluster, named by its address alone."""

from __future__ import annotations

import uuid
from pathlib import Path

import orjson
import polars as pl
import pytest

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings
from tests.faults.targets import committed_records
from tests.services.kafka import KafkaServer


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_rows_go_to_the_cluster_of_the_address(
    tmp_path: Path, kafka: KafkaServer, guarantee: str
) -> None:
    topic = f"elsewhere-{uuid.uuid4().hex[:8]}"
    pl.DataFrame({"id": range(1000)}).write_parquet(tmp_path / "in.parquet")
    topology = sc.Topology("elsewhere")
    uri = f"{kafka.url}/{topic}?key=id&create=true&guarantee={guarantee}"
    topology.stream("rows", {"id": "int64"}).to(sc.sinks.open_sink(uri))
    sources = {"rows": open_source(tmp_path / "in.parquet")}
    options = ReplayOptions(Settings.model_validate({"state": {"dir": tmp_path / "state"}}))

    first = await replay(topology, sources, options, lambda progress: None)
    again = await replay(topology, sources, options, lambda progress: None)

    assert (first.status, again.status) == ("finished", "already finished")
    assert first.outputs == {f"topic:{topic}": f"{kafka.url}/{topic}"}
    records = await committed_records(kafka.bootstrap, topic, patience=30)
    values = [orjson.loads(record.value or b"") for record in records]
    assert sorted(value["id"] for value in values) == list(range(1000))


def test_a_topic_of_another_cluster_is_not_the_one_that_is_read() -> None:
    topology = sc.Topology("copy")
    topology.stream("rows", {"id": "int64"}).to(sc.sinks.open_sink("kafka://other:9092/rows"))
    topology.freeze()
    loop = sc.Topology("loop")
    loop.stream("rows", {"id": "int64"}).to(sc.sinks.Topic("rows"))
    with pytest.raises(BadConfig, match="cycle"):
        loop.freeze()
