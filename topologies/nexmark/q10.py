"""Nexmark q10, log to files: every bid in a folder of its day and minute (UTC)."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q10")

(
    events(topology)
    .filter("event = 'bid'")
    .add_column("day", "strftime(cast(date_time as timestamp(3)), '%Y-%m-%d')")
    .add_column("minute", "strftime(cast(date_time as timestamp(3)), '%H:%M')")
    .select("auction", "bidder", "price", "date_time", "day", "minute")
    .to(sc.sinks.Parquet("out/nexmark/q10", partition_by=["day", "minute"]))
)
