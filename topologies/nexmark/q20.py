"""Nexmark q20, expand bids with what is for sale: those on auctions of category 10."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q20")

stream = events(topology)
auctions = stream.filter("event = 'auction' and category = 10").select(
    "id", "item_name", "seller", "category"
)
bids = stream.filter("event = 'bid'").select("auction", "bidder", "price", "date_time")
(
    bids.join(auctions, on={"auction": "id"})
    .select("auction", "bidder", "price", "date_time", "item_name", "seller", "category")
    .to(sc.sinks.Parquet("out/nexmark/q20"))
)
