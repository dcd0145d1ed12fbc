"""Nexmark q14, calculation: bids of some worth with their part of the day (UTC) and a count of letters."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q14")

(
    events(topology)
    .filter("event = 'bid' and 0.908 * price > 1000000 and 0.908 * price < 50000000")
    .add_column("price", "round(0.908 * price, 3)")
    .add_column("hour", "extract(hour from cast(date_time as timestamp(3)))")
    .add_column(
        "time_type",
        """case when hour between 8 and 18 then 'dayTime'
                when hour <= 6 or hour >= 20 then 'nightTime'
                else 'otherTime' end""",
    )
    .add_column("c_counts", "length(extra) - length(replace(extra, 'c', ''))")
    .select("auction", "bidder", "price", "time_type", "date_time", "c_counts")
    .to(sc.sinks.Parquet("out/nexmark/q14"))
)
