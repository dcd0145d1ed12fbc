"""Nexmark q5, hot items: the auctions with the most bids in the last 10 seconds, every 2 seconds."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q5")

bids = events(topology).filter("event = 'bid'")
counts = bids.window(sc.hopping("10s", every="2s")).by("auction").aggregate(num="count(*)")
# The windows that end together fall into one of the tumbling windows, and that one ends with them.
most = counts.window(sc.tumbling("2s")).aggregate(most="max(num)").select("most", "window_end")
(
    counts.join(most, on={"num": "most", "window_end": "window_end"}, within="0s")
    .select("auction", "num", "window_start")
    .to(sc.sinks.Parquet("out/nexmark/q5"))
)
