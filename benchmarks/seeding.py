"""Input topics, made fast: W1's user events, 136 bytes of JSON each, keyed by user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import Int64s
from streamcore.contracts import Records
from streamcore.formats import Json
from streamcore.transport.kafka_log import KafkaLog
from streamcore.transport.partitioning import partition_of

BASE = 1_767_225_600_000
"""2026-01-01T00:00:00Z in milliseconds; event *i* is *i* milliseconds later."""
PART = 50_000
WINDOW = 10_000
"""W2's windows, in milliseconds."""


def users(first: int, count: int, hot: Int64s | None = None) -> pl.DataFrame:
    """Events *first* to *first* + *count*; every 50th has a bad e-mail address. Deterministic.

    *hot*: users of whom two thirds of the events are.
    """
    random = np.random.default_rng(first)
    ids = np.arange(first, first + count)
    user = random.integers(0, 10_000, count)
    if hot is not None:
        user = np.where(ids % 3 == 0, user, hot[user % len(hot)])
    return pl.DataFrame(
        {
            "event_id": ids,
            "user_id": user,
            "email": pl.select(
                pl.when(pl.Series(ids) % 50 != 0)
                .then(pl.concat_str(pl.lit("user"), pl.Series(user), pl.lit("@example.com")))
                .otherwise(pl.lit("bad"))
            ).to_series(),
            "age": random.integers(0, 100, count),
            "salary": random.random(count) * 100_000,
            "action": pl.repeat("login", count, eager=True),
            "ts": BASE + ids,
        }
    )


@dataclass(frozen=True)
class Seeded:
    """``messages`` in ``topic``; W1 keeps ``adults`` of them, W2 makes ``windows`` of them."""

    topic: str
    partitions: int
    messages: int
    adults: int
    windows: int


async def seed(log: KafkaLog, topic: str, messages: int, partitions: int, *, uneven: bool = False) -> Seeded:
    """Make *topic* with *messages* messages, and one of a child a partition that closes all windows.

    *uneven*: two thirds of them are in partition 0, so that who reads all partitions from their start is
    far ahead of it, in event time, in the others.
    """
    await log.create(topic, partitions, {"retention.ms": "-1"})
    hot = _of_partition_0(partitions) if uneven else None
    adults, windows, encode = 0, pl.DataFrame(), Json().encode
    for first in range(0, messages, PART):
        frame = users(first, min(PART, messages - first), hot)
        adults += int((frame["age"] >= 18).sum())
        windows = pl.concat([windows, frame.select("user_id", pl.col("ts") // WINDOW)]).unique()
        keys = keys_of(frame["user_id"])
        records = Records(encode(frame), frame["ts"].to_numpy(), keys)
        await (await log.append(topic, records))
    last = users(messages, partitions).with_columns(pl.lit(0).alias("age"), pl.col("ts") + 2 * WINDOW)
    places = np.arange(partitions, dtype=np.int32)
    keys = keys_of(last["user_id"])  # Quix asks for one
    await (await log.append(topic, Records(encode(last), last["ts"].to_numpy(), keys, partitions=places)))
    return Seeded(topic, partitions, messages, adults, windows.height)


def keys_of(users: pl.Series) -> pa.BinaryArray:
    """Record keys: the users as text."""
    return pa.array(users.cast(pl.String).to_arrow()).cast(pa.binary())


def _of_partition_0(partitions: int) -> Int64s:
    every = pl.Series(np.arange(10_000))
    return np.flatnonzero(partition_of(keys_of(every), partitions, 0) == 0).astype(np.int64)
