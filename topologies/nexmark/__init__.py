"""Nexmark, the field's benchmark of stream queries: an auction house, one topology a query.

One stream carries three kinds of events: people register, sellers open auctions, bidders bid. Of
fifty events one is a person, three are auctions and 46 are bids. The queries q0 to q22 ask of it what
stream processors are for: passing on, converting, filtering, joining, windows, rankings. They come
from Tucker, Tufte, Papadimos and Maier, "NEXMark: A Benchmark for Queries over Data Streams" (2002),
and were extended by Apache Beam and by github.com/nexmark/nexmark, whose SQL for Flink is today's
reference. q6 is left out by convention.

::

    python -m topologies.nexmark.generator --events 1000000 --seed 1 events.jsonl.zst
    streamcore replay topologies.nexmark.q1 --from events=events.jsonl.zst

Here are the queries that need no state (q0, q1, q2, q10, q14, q21, q22) and those over one window (q11,
q15, q16, q17). Each writes Parquet files to ``out/nexmark/`` and its own name. data/nexmark/ has events
and the answers to them.
"""
