"""Nexmark q0, pass through: every bid as it came. What reading and writing cost by themselves."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q0")

(
    events(topology)
    .filter("event = 'bid'")
    .select("auction", "bidder", "price", "date_time", "extra")
    .to(sc.sinks.Parquet("out/nexmark/q0"))
)
