"""Nexmark q11, user sessions: how many bids a user makes while no more than 10 s lie between them."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q11")

(
    events(topology)
    .filter("event = 'bid'")
    .window(sc.session("10s"))
    .by("bidder")
    .aggregate(bids="count(*)")
    .select("bidder", "bids", "window_start", "window_end")
    .to(sc.sinks.Parquet("out/nexmark/q11"))
)
