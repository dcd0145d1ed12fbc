"""Flight delays: validated, banded, written as Parquet by airport."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

import streamcore as sc


class Flight(sc.Event):
    """A domestic flight; ``delay`` in minutes (negative is early), ``distance`` in miles."""

    date: datetime
    delay: int
    distance: int = Field(gt=0)
    origin: str = Field(pattern=r"^[A-Z]{3}$")
    destination: str = Field(pattern=r"^[A-Z]{3}$")


topology = sc.Topology("flights")
flights = topology.stream("flights", Flight, key="origin", event_time="date", max_lateness="1h")

late = (
    flights.validate(
        sc.rules.range("delay", min=-60, max=1440, severity="warning"),
        sc.rules.expression("origin <> destination"),
    )
    .filter("delay > 15")
    .add_column("band", "case when delay < 60 then 'late' else 'very late' end")
)
late.to(sc.sinks.Parquet("out/late", partition_by="origin"))
