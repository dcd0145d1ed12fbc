"""Branches of the simulation with tables whose keys live for a while."""

from __future__ import annotations

from collections.abc import Mapping

from streamcore.stream import Stream
from tests.simulation import oracle
from tests.simulation.branch import Branch, Wanted, rows_of, sums
from tests.simulation.oracle import NEVER, Judged

TTL = 6
"""Milliseconds: keys of a partition that is behind leave, and lives are several."""


def aggregated() -> Branch:
    """What shops have in their newest lives, whose rows are in all partitions."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        shops = streams["rows"].filter("shop is not null").by("shop", ttl=f"{TTL}ms")
        return shops.aggregate(counted="count(*)", total="sum(n)", name="living")

    def wanted(judged: Judged) -> Wanted:
        with_shop = [row for row in rows_of(judged) if row.document["shop"] is not None]
        timely = oracle.timely(judged, with_shop, "living")
        found = oracle.living(judged, timely, "shop", TTL, apart=TTL)
        rows = [{"shop": shop, **sums([row.document for row in life])} for shop, life in found.items()]
        return Wanted(rows, key=("shop",))

    return Branch("living", declare, wanted, timed=True, key=("shop",))


def top() -> Branch:
    """The best two rows of the newest life of each key, all of whose rows are in one partition."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        keys = streams["rows"].by("key", ttl=f"{TTL}ms")
        return keys.top(2, order="n desc, id", name="living-top")

    def wanted(judged: Judged) -> Wanted:
        timely = oracle.timely(judged, rows_of(judged), "living-top")
        found, rows = oracle.living(judged, timely, "key", TTL, apart=TTL), []
        for life in found.values():
            best = sorted((row.document for row in life), key=lambda row: (-row["n"], row["id"]))
            rows += [{**row, "rank": rank} for rank, row in enumerate(best[:2], start=1)]
        return Wanted(rows, key=("key", "rank"))

    return Branch("living-top", declare, wanted, timed=True, key=("key", "rank"))


def latest() -> Branch:
    """The latest row of each key, all of whose rows are in one partition, as changes."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        keys = streams["rows"].select("key", "id", "at").by("key", ttl=f"{TTL}ms")
        return keys.latest(name="living-latest").changelog()

    def wanted(judged: Judged) -> Wanted:
        rows = oracle.timely(judged, rows_of(judged), "living-latest")
        found = oracle.living(judged, rows, "key", TTL, apart=NEVER)
        newest = [max(life, key=lambda row: row.offset).document for life in found.values()]
        rows_left = [{name: row[name] for name in ("key", "id", "at")} for row in newest]
        return Wanted(rows_left, key=("key",), changes="updates")

    return Branch("living-latest", declare, wanted, timed=True)
