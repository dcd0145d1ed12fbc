"""Nexmark q2, selection: the bids on every 123rd auction. A filter that lets little pass."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q2")

(
    events(topology)
    .filter("event = 'bid' and auction % 123 = 0")
    .select("auction", "price")
    .to(sc.sinks.Parquet("out/nexmark/q2"))
)
