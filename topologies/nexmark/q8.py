"""Nexmark q8, monitor new users: who came and sold something in the same 10 seconds."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q8")

stream = events(topology)
people = (
    stream.filter("event = 'person'")
    .window(sc.tumbling("10s"))
    .by("id", "name")
    .aggregate(times="count(*)")
    .drop("times")
)
sellers = (
    stream.filter("event = 'auction'")
    .window(sc.tumbling("10s"))
    .by("seller")
    .aggregate(times="count(*)")
    .drop("times")
)
same = {"id": "seller", "window_start": "window_start", "window_end": "window_end"}
(
    people.join(sellers, on=same, within="0s")
    .select("id", "name", "window_start")
    .to(sc.sinks.Parquet("out/nexmark/q8"))
)
