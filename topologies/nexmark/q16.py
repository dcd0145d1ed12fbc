"""Nexmark q16, channel statistics by day: as q15 for each channel, and the minute of its last bid."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events
from topologies.nexmark.ranks import BIDS, DISTINCT

topology = sc.Topology("nexmark-q16")

(
    events(topology)
    .filter("event = 'bid'")
    .window(sc.tumbling("1d"))
    .by("channel")
    .aggregate(last="max(date_time)", **BIDS, **DISTINCT)
    .add_column("day", "strftime(cast(window_start as timestamp(3)), '%Y-%m-%d')")
    .add_column("minute", "strftime(cast(last as timestamp(3)), '%H:%M')")
    .select("channel", "day", "minute", *BIDS, *DISTINCT)
    .to(sc.sinks.Parquet("out/nexmark/q16"))
)
