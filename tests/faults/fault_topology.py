"""The topology that the fault runs put under load; its sink is what ``SC_FAULT_SINK`` says."""

from __future__ import annotations

import os

from pydantic import Field

import streamcore as sc
from streamcore.contracts import Sink


class Row(sc.Event):
    id: str
    key: str
    sequence: int
    n: int = Field(ge=0)
    bucket: str
    note: str


NAME = os.environ.get("SC_FAULT_NAME", "faults")
TABLES = {
    "postgres": sc.sinks.Postgres,
    "mysql": sc.sinks.MySQL,
    "sqlite": sc.sinks.SQLite,
    "mongodb": sc.sinks.MongoDB,
}


def _sink() -> Sink:
    kind, target = os.environ["SC_FAULT_SINK"], os.environ["SC_FAULT_TARGET"]
    if kind in ("files", "s3"):
        return sc.sinks.Parquet(target, partition_by="bucket", roll_rows=300, roll_seconds=0.3, name="out")
    if kind in TABLES:
        return TABLES[kind]("effects", target)
    if kind == "redis":
        return sc.sinks.RedisStream(f"effects:{NAME}", target, name="effects")
    if kind == "http":
        return sc.sinks.Http(target, batch_rows=40, allow_private=True)
    exact = kind == "topic-exact"
    return sc.sinks.Topic(target, key="key", guarantee="exactly-once" if exact else "at-least-once")


topology = sc.Topology(NAME)
(
    topology.stream("rows", Row, key="key", topic=os.environ.get("SC_FAULT_TOPIC", "rows"))
    .validate(sc.rules.range("n", max=100_000))
    .add_column("twice", "n * 2")
    .to(_sink())
)
