"""Nexmark q19, the ten highest bids on each auction."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q19")

(
    events(topology)
    .filter("event = 'bid'")
    .select("auction", "price")
    .by("auction")
    .top(10, order="price desc", rank="rn")
    .changelog()
    .to(sc.sinks.Parquet("out/nexmark/q19"))
)
