"""Input topics, made fast: W1's user events, 136 bytes of JSON each, keyed by user."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.contracts import Records
from streamcore.formats import Json
from streamcore.transport.kafka_log import KafkaLog

BASE = 1_767_225_600_000
"""2026-01-01T00:00:00Z in milliseconds; event *i* is *i* milliseconds later."""
PART = 50_000


def users(first: int, count: int) -> pl.DataFrame:
    """Events *first* to *first* + *count*; every 50th has a bad e-mail address. Deterministic."""
    random = np.random.default_rng(first)
    ids = np.arange(first, first + count)
    user = random.integers(0, 10_000, count)
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


async def seed(log: KafkaLog, topic: str, messages: int, partitions: int) -> int:
    """Make *topic* with *messages* messages; returns how many of them W1 keeps (age 18 and over)."""
    await log.create(topic, partitions, {"retention.ms": "-1"})
    kept, encode = 0, Json().encode
    for first in range(0, messages, PART):
        frame = users(first, min(PART, messages - first))
        kept += int((frame["age"] >= 18).sum())
        keys = pa.array(frame["user_id"].cast(pl.String).to_arrow()).cast(pa.binary())
        records = Records(encode(frame), frame["ts"].to_numpy(), keys)
        await (await log.append(topic, records))
    return kept
