"""Nexmark q21, channel ids: of a known channel by its name, of another one as its URL says."""

from __future__ import annotations

import streamcore as sc
from topologies.nexmark.events import events

topology = sc.Topology("nexmark-q21")

# The reference extracts '(&|^)channel_id=([^&]*)'. An '&' before the URL makes '^' an '&' too, and then
# the text between the first '&channel_id=' and the next '&' is the same.
(
    events(topology)
    .filter(
        """event = 'bid' and (lower(channel) in ('apple', 'google', 'facebook', 'baidu')
                              or strpos('&' || url, '&channel_id=') > 0)"""
    )
    .add_column(
        "channel_id",
        """case lower(channel) when 'apple' then '0' when 'google' then '1'
                               when 'facebook' then '2' when 'baidu' then '3'
           else split_part(split_part('&' || url, '&channel_id=', 2), '&', 1) end""",
    )
    .select("auction", "bidder", "price", "channel", "channel_id")
    .to(sc.sinks.Parquet("out/nexmark/q21"))
)
