"""Nexmark q15, bidding statistics by day: bids, bidders and auctions by price.

The reference updates each day's row; here a day is a window, whose row comes when it is over.
"""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events
from topologies.nexmark.ranks import BIDS, DISTINCT

topology = sc.Topology("nexmark-q15")

(
    events(topology)
    .filter("event = 'bid'")
    .window(sc.tumbling("1d"))
    .aggregate(**BIDS, **DISTINCT)
    .add_column("day", "strftime(cast(window_start as timestamp(3)), '%Y-%m-%d')")
    .select("day", *BIDS, *DISTINCT)
    .to(sc.sinks.Parquet("out/nexmark/q15"))
)
