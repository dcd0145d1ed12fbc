"""Nexmark q9, winning bids: the highest bid on each auction while it was open, the earlier one of equals."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q9")

stream = events(topology)
auctions = (
    stream.filter("event = 'auction'")
    .rename({"date_time": "opened"})
    .select("id", "seller", "category", "opened", "expires")
)
bids = stream.filter("event = 'bid'").select("auction", "bidder", "price", "date_time")
(
    auctions.join(bids, on={"id": "auction"}, where="date_time between opened and expires")
    .by("id")
    .top(1, order="price desc, date_time, bidder")
    .select("id", "seller", "category", "auction", "bidder", "price", "date_time")
    .changelog()
    .to(sc.sinks.Parquet("out/nexmark/q9"))
)
