"""The answers to Nexmark's queries as batch SQL in DuckDB over the whole file: what a stream must come to.

Conventions, all of them the reference's (github.com/nexmark/nexmark on Flink) unless said otherwise:

- Windows are aligned to the epoch. q5 keeps those in which the first bids fall: starts from four hops before.
- q7 joins with both bounds included, so a bid at a window's end may also answer for the window before it.
- Sessions (q11): events at most 10 s apart belong together; a session ends 10 s after its last event.
- The average of integers truncates. A missing part of a URL is null. Days and hours are those of UTC.
- A query whose answer changes over time (q3, q4, q9, q15 to q20) is asked for its final table.
- A tie in q9 goes to the lowest bidder: the reference has no rule, this one is ours.
- q18 and q19 leave out columns in which ties could differ.

q6 is left out by convention, q12 asks the clock, q13 needs a side input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from topologies.nexmark.events import KINDS

_TYPES = """{event: 'VARCHAR', id: 'BIGINT', name: 'VARCHAR', email_address: 'VARCHAR',
    credit_card: 'VARCHAR', city: 'VARCHAR', state: 'VARCHAR', item_name: 'VARCHAR', description: 'VARCHAR',
    initial_bid: 'BIGINT', reserve: 'BIGINT', expires: 'BIGINT', seller: 'BIGINT', category: 'BIGINT',
    auction: 'BIGINT', bidder: 'BIGINT', price: 'BIGINT', channel: 'VARCHAR', url: 'VARCHAR',
    date_time: 'BIGINT', extra: 'VARCHAR'}"""
_DAY = "strftime(epoch_ms(date_time), '%Y-%m-%d')"
_MINUTE = "strftime(epoch_ms(date_time), '%H:%M')"
_HOUR = "hour(epoch_ms(date_time))"
_TEN_SECONDS = "(date_time // 10000 * 10000)"
_CHANNEL_ID = r"'(&|^)channel_id=([^&]*)'"
_RANKS = (
    "",
    "filter (where price < 10000)",
    "filter (where price >= 10000 and price < 1000000)",
    "filter (where price >= 1000000)",
)
_BIDS_BY_RANK = ", ".join(f"count(*) {rank}" for rank in _RANKS)
_DISTINCT_BY_RANK = ", ".join(
    f"count(distinct {column}) {rank}" for column in ("bidder", "auction") for rank in _RANKS
)

QUERIES = {
    "q0": "select auction, bidder, price, date_time, extra from bid",
    "q1": "select auction, bidder, round(0.908 * price, 3), date_time from bid",
    "q2": "select auction, price from bid where auction % 123 = 0",
    "q3": """select name, city, state, auction.id from auction join person on seller = person.id
        where category = 10 and lower(state) in ('or', 'id', 'ca')""",
    "q4": """with final as (
            select max(price) as price, category from auction join bid on auction.id = bid.auction
                and bid.date_time between auction.date_time and expires
            group by auction.id, category)
        select category, (sum(price) // count(*))::bigint from final group by category""",
    "q5": """with hops as (
            select auction, unnest(range(date_time // 2000 - 4, date_time // 2000 + 1)) * 2000 as start
            from bid),
        counts as (select auction, count(*) as bids, start from hops group by all)
        select auction, bids, start from counts qualify bids = max(bids) over (partition by start)""",
    "q7": f"""with highest as (select max(price) as price, {_TEN_SECONDS} as start from bid group by start)
        select auction, price, bidder, date_time from bid join highest using (price)
        where date_time between start and start + 10000""",
    "q8": f"""with people as (select distinct id, name, {_TEN_SECONDS} as start from person),
        sellers as (select distinct seller as id, {_TEN_SECONDS} as start from auction)
        select id, name, start from people join sellers using (id, start)""",
    "q9": """select auction.id, seller, category, bid.auction, bidder, price, bid.date_time
        from auction join bid on auction.id = bid.auction
            and bid.date_time between auction.date_time and expires
        qualify row_number() over (
            partition by auction.id order by price desc, bid.date_time, bidder) = 1""",
    "q10": f"select auction, bidder, price, date_time, {_DAY}, {_MINUTE} from bid",
    "q11": """with gaps as (
            select bidder, date_time, coalesce(date_time - lag(date_time) over (
                partition by bidder order by date_time) > 10000, false) as opens from bid),
        sessions as (
            select *, count(*) filter (where opens) over (
                partition by bidder order by date_time) as session from gaps)
        select bidder, count(*), min(date_time), max(date_time) + 10000
        from sessions group by bidder, session""",
    "q14": f"""select auction, bidder, round(0.908 * price, 3),
            case when {_HOUR} between 8 and 18 then 'dayTime'
                 when {_HOUR} <= 6 or {_HOUR} >= 20 then 'nightTime' else 'otherTime' end,
            date_time, length(extra) - length(replace(extra, 'c', ''))
        from bid where 0.908 * price > 1000000 and 0.908 * price < 50000000""",
    "q15": f"select {_DAY} as day, {_BIDS_BY_RANK}, {_DISTINCT_BY_RANK} from bid group by day",
    "q16": f"""select channel, {_DAY} as day, max({_MINUTE}), {_BIDS_BY_RANK}, {_DISTINCT_BY_RANK}
        from bid group by channel, day""",
    "q17": f"""select auction, {_DAY} as day, {_BIDS_BY_RANK}, min(price), max(price),
            (sum(price) // count(*))::bigint, sum(price)::bigint
        from bid group by auction, day""",
    "q18": """select auction, bidder, date_time from bid
        qualify row_number() over (partition by bidder, auction order by date_time desc) = 1""",
    "q19": """select auction, price, row_number() over (partition by auction order by price desc) as place
        from bid qualify place <= 10""",
    "q20": """select auction, bidder, price, bid.date_time, item_name, seller, category
        from bid join auction on bid.auction = auction.id where category = 10""",
    "q21": f"""select auction, bidder, price, channel, case lower(channel)
            when 'apple' then '0' when 'google' then '1' when 'facebook' then '2' when 'baidu' then '3'
            else regexp_extract(url, {_CHANNEL_ID}, 2) end
        from bid where regexp_matches(url, {_CHANNEL_ID})
            or lower(channel) in ('apple', 'google', 'facebook', 'baidu')""",
    "q22": """select auction, bidder, price, channel,
            string_split(url, '/')[4], string_split(url, '/')[5], string_split(url, '/')[6]
        from bid""",
}
"""By query: its answer, over the views ``person``, ``auction`` and ``bid``."""


class Answer(NamedTuple):
    """How many rows a query has, and their checksum."""

    rows: int
    checksum: str


def answers(events_file: Path, queries: Iterable[str] = tuple(QUERIES)) -> dict[str, Answer]:
    """The answer to each of *queries* over a file of JSON lines, compressed or not."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(
            f"create table event as from read_json(?, format = 'newline_delimited', columns = {_TYPES})",
            [str(events_file)],
        )
        for kind, columns in KINDS.items():
            select = f"select {', '.join(columns)} from event where event = '{kind}'"
            connection.execute(f"create view {kind} as {select}")
        return {query: answer(connection.execute(QUERIES[query]).fetchall()) for query in queries}


def answer(rows: Sequence[Sequence[object]]) -> Answer:
    """The answer that *rows* are."""
    return Answer(len(rows), checksum(rows))


def checksum(rows: Iterable[Sequence[object]]) -> str:
    """16 hex digits that do not depend on the rows' order, but on how often each is there.

    The sum, modulo 2**64, of the first 8 bytes (big endian) of the SHA-256 of each row as a compact
    JSON array; decimals are written as floats.
    """
    total = 0
    for row in rows:
        text = json.dumps(list(row), separators=(",", ":"), default=float)
        total += int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return f"{total % 2**64:016x}"
