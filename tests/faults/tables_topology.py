"""The topology of fault runs with tables, joins and lookups: one source, and of each kind one result."""

from __future__ import annotations

import os

from pydantic import Field

import streamcore as sc
from streamcore.contracts import Sink


class Row(sc.Event):
    id: str
    key: str
    kind: str
    shop: str
    deal: str
    at: int
    n: int = Field(ge=0)
    note: str


KIND, TARGET = os.environ.get("SC_FAULT_SINK", "files"), os.environ.get("SC_FAULT_TARGET", "out")
LABEL = {"deal": "string", "label": "string"}


def _sink(name: str, key: str | None = None) -> Sink:
    if KIND == "postgres":
        return sc.sinks.Postgres(name, TARGET, key=key)
    if KIND == "topic-exact":
        return sc.sinks.Topic(f"{TARGET}-{name}", guarantee="exactly-once", name=name)
    return sc.sinks.Parquet(f"{TARGET}/{name}", roll_rows=50, roll_seconds=0.3, name=name)


topology = sc.Topology(os.environ.get("SC_FAULT_NAME", "faults"))
rows = topology.stream(
    "rows",
    Row,
    event_time="at",
    max_lateness="1h",  # no row is late
    idle_after="1h",
    topic=os.environ.get("SC_FAULT_TOPIC", "rows"),
)
orders = rows.filter("kind = 'order'").rename({"id": "order_id", "at": "ordered"})
payments = rows.filter("kind = 'payment'").rename({"id": "payment_id", "at": "paid"})
prices = rows.filter("kind = 'price'").rename({"n": "version"})

totals = rows.by("shop").aggregate(counted="count(*)", total="sum(n)")
thirds = totals.filter("total % 3 <> 0")  # its rows come and go
for table, name in ((totals, "totals"), (thirds, "thirds")):
    if KIND == "files":
        table.changelog().to(_sink(name))
    else:
        table.to(_sink(name, "shop"))

(
    orders.select("order_id", "deal", "ordered")
    .join(payments.select("payment_id", "deal", "paid"), on="deal", within=("0s", "5s"))
    .select("order_id", "payment_id")
    .to(_sink("pairs"))
)
latest = prices.select("key", "version").by("key").latest()
orders.select("order_id", "key").join(latest, on="key", how="left").select("order_id", "version").to(
    _sink("priced")
)
labels = (
    sc.references.Postgres("labels", key="deal", columns=LABEL, url=TARGET, cache_rows=20)
    if KIND == "postgres"
    else sc.references.File(os.environ.get("SC_FAULT_LABELS", f"{TARGET}.csv"), key="deal")
)
rows.select("id", "deal").lookup(labels, on="deal").select("id", "label").to(_sink("found"))
