"""Nexmark q22, directories of a URL: the first three; one that the URL lacks is null."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q22")

# split_part would give an empty text for a missing directory, which an empty one has too.
(
    events(topology)
    .filter("event = 'bid'")
    .add_column("dir1", "string_to_array(url, '/')[4]")
    .add_column("dir2", "string_to_array(url, '/')[5]")
    .add_column("dir3", "string_to_array(url, '/')[6]")
    .select("auction", "bidder", "price", "channel", "dir1", "dir2", "dir3")
    .to(sc.sinks.Parquet("out/nexmark/q22"))
)
