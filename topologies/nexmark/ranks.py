"""Counts of bids by price, which q15 to q17 ask for."""

from __future__ import annotations

RANKS = {
    "": "",
    "rank1_": " filter (where price < 10000)",
    "rank2_": " filter (where price >= 10000 and price < 1000000)",
    "rank3_": " filter (where price >= 1000000)",
}
"""Nexmark's price ranks: the prefix of a column and the rows that it counts."""
BIDS = {f"{rank or 'total_'}bids": f"count(*){rows}" for rank, rows in RANKS.items()}
DISTINCT = {
    f"{rank or 'total_'}{column}s": f"count(distinct {column}){rows}"
    for column in ("bidder", "auction")
    for rank, rows in RANKS.items()
}
