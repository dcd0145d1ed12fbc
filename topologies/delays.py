"""Flight delays by airport and day: a window over a bounded stream, replayed to Parquet."""

from __future__ import annotations

import streamcore as sc
from topologies.flights import Flight

topology = sc.Topology("delays")
flights = topology.stream("flights", Flight, key="origin", event_time="date", max_lateness="1h")

daily = (
    flights.filter("delay > -60")
    .window(sc.tumbling("1d"))
    .by("origin")
    .aggregate(
        flights="count(*)",
        late="count(*) filter (where delay > 15)",
        mean_delay="avg(delay)",
        worst="max(delay)",
    )
)
daily.filter("late > 0").to(sc.sinks.Parquet("out/delays"))
