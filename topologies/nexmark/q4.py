"""Nexmark q4, average price for a category: of the highest bids on each auction while it was open."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q4")

stream = events(topology)
auctions = (
    stream.filter("event = 'auction'")
    .rename({"date_time": "opened"})
    .select("id", "category", "opened", "expires")
)
bids = stream.filter("event = 'bid'").select("auction", "price", "date_time")
(
    auctions.join(bids, on={"id": "auction"}, where="date_time between opened and expires")
    .by("id", "category")
    .aggregate(final="max(price)")
    .by("category")
    .aggregate(average="sum(final) // count(*)")
    .changelog()
    .to(sc.sinks.Parquet("out/nexmark/q4"))
)
