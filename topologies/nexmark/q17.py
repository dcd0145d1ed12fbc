"""Nexmark q17, auction statistics by day: bids by price, and the least, highest, mean and summed price."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events
from topologies.nexmark.ranks import BIDS

topology = sc.Topology("nexmark-q17")

(
    events(topology)
    .filter("event = 'bid'")
    .window(sc.tumbling("1d"))
    .by("auction")
    .aggregate(
        **BIDS,
        min_price="min(price)",
        max_price="max(price)",
        avg_price="sum(price) // count(*)",
        sum_price="sum(price)",
    )
    .add_column("day", "strftime(cast(window_start as timestamp(3)), '%Y-%m-%d')")
    .select("auction", "day", *BIDS, "min_price", "max_price", "avg_price", "sum_price")
    .to(sc.sinks.Parquet("out/nexmark/q17"))
)
