"""Nexmark q13, bounded side input: each bid with what a reference says of its auction."""

from __future__ import annotations

import polars as pl

import streamcore as sc
from topologies.nexmark.events import events

SIDE = pl.DataFrame({"key": range(10_000)}).with_columns(pl.col("key").cast(pl.String).alias("value"))

topology = sc.Topology("nexmark-q13")

(
    events(topology)
    .filter("event = 'bid'")
    .add_column("key", "auction % 10000")
    .lookup(SIDE, on="key", how="inner")
    .select("auction", "bidder", "price", "date_time", "value")
    .to(sc.sinks.Parquet("out/nexmark/q13"))
)
