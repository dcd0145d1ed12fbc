"""Nexmark q3, local item suggestion: who sells in category 10 and lives in Oregon, Idaho or California."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q3")

stream = events(topology)
people = (
    stream.filter("event = 'person' and lower(state) in ('or', 'id', 'ca')")
    .rename({"id": "person"})
    .select("person", "name", "city", "state")
)
auctions = stream.filter("event = 'auction' and category = 10").select("id", "seller")
(
    auctions.join(people, on={"seller": "person"})
    .select("name", "city", "state", "id")
    .to(sc.sinks.Parquet("out/nexmark/q3"))
)
