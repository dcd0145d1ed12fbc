"""The topology of fault runs with windows: by another column than the partitioning, and one behind it."""

from __future__ import annotations

import os

from pydantic import Field

import streamcore as sc
from streamcore.contracts import Sink


class Row(sc.Event):
    id: str
    key: str
    shop: str | None
    at: int | None
    n: int = Field(ge=0)
    note: str


def _sink(name: str) -> Sink:
    kind, target = os.environ["SC_FAULT_SINK"], os.environ["SC_FAULT_TARGET"]
    if kind == "postgres":
        return sc.sinks.Postgres(name, target)
    if kind == "topic-exact":
        return sc.sinks.Topic(f"{target}-{name}", guarantee="exactly-once", name=name)
    return sc.sinks.Parquet(f"{target}/{name}", roll_rows=50, roll_seconds=0.3, name=name)


topology = sc.Topology(os.environ.get("SC_FAULT_NAME", "faults"))
rows = topology.stream(
    "rows",
    Row,
    event_time="at",
    max_lateness="10s",
    idle_after="1h",  # a fault must not make rows late
    topic=os.environ.get("SC_FAULT_TOPIC", "rows"),
).validate(sc.rules.range("n", max=100_000))
shops = rows.window(sc.tumbling("1s")).by("shop").aggregate(counted="count(*)", total="sum(n)")
shops.to(_sink("shops"))
shops.window(sc.tumbling("10s")).aggregate(windows="count(*)", counted="sum(counted)").to(_sink("spans"))
rows.late().to(_sink("late"))
