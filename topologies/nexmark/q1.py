"""Nexmark q1, currency conversion: every bid with its price in euros, as an exact decimal."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q1")

(
    events(topology)
    .filter("event = 'bid'")
    .add_column("price", "round(0.908 * price, 3)")
    .select("auction", "bidder", "price", "date_time")
    .to(sc.sinks.Parquet("out/nexmark/q1"))
)
