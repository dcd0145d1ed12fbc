"""Nexmark q7, highest bid: the bids with the highest price in each 10 seconds."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q7")

bids = events(topology).filter("event = 'bid'").select("auction", "price", "bidder", "date_time")
highest = bids.window(sc.tumbling("10s")).aggregate(highest="max(price)")
(
    bids.join(
        highest,
        on={"price": "highest"},
        within=("0s", "10s"),  # the window ends so long after the bid
        where="date_time between window_start and window_end",
    )
    .select("auction", "price", "bidder", "date_time")
    .to(sc.sinks.Parquet("out/nexmark/q7"))
)
