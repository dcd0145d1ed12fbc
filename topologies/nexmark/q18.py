"""Nexmark q18, find the last bid of each user on each auction."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q18")

(
    events(topology)
    .filter("event = 'bid'")
    .select("auction", "bidder", "date_time")
    .by("bidder", "auction")
    .top(1, order="date_time desc")
    .changelog()
    .to(sc.sinks.Parquet("out/nexmark/q18"))
)
