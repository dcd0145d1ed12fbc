"""A table of wide rows by key, one partition of state; what comes out is narrow."""

from __future__ import annotations

import os

import streamcore as sc

topology = sc.Topology(os.environ.get("GROUP", "takeover"))
rows = topology.stream(
    "rows", {"key": "int64", "round": "int64", "text": "string"}, topic=os.environ.get("IN", "rows")
)
newest = rows.by("key").latest(name="newest").select("key", "round")
newest.to(sc.sinks.Topic(os.environ.get("OUT", "newest")))
