"""Nexmark q12, processing time windows: how many bids a user makes in 10 s of the clock."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import NexmarkEvent

topology = sc.Topology("nexmark-q12")

(
    topology.stream("events", NexmarkEvent, event_time=sc.PROCESSING_TIME, topic="nexmark")
    .filter("event = 'bid'")
    .window(sc.tumbling("10s"))
    .by("bidder")
    .aggregate(bids="count(*)")
    .select("bidder", "bids", "window_start", "window_end")
    .to(sc.sinks.Parquet("out/nexmark/q12"))
)
