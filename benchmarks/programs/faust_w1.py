"""W1 on plain Faust: one agent, one event at a time, as its documentation shows."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import faust

app = faust.App(
    os.environ["GROUP"],
    broker=f"kafka://{os.environ['BROKER']}",
    datadir=os.environ["WORK"] + "/faust",
    store="memory://",
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    topic_partitions=4,
    topic_replication_factor=1,
    stream_buffer_maxsize=16384,
    broker_commit_interval=2.0,
    consumer_max_fetch_size=4 << 20,
    producer_linger_ms=20,
    producer_max_batch_size=262_144,
    producer_compression_type="lz4",
    producer_acks=-1,
)
events = app.topic(os.environ["IN"], key_type=bytes, key_serializer="raw", value_serializer="json")
adults = app.topic(
    os.environ["OUT"], key_type=bytes, key_serializer="raw", value_serializer="json", partitions=4
)
email = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$").match
bad = 0


@app.agent(events)
async def work(stream: faust.StreamT[Any]) -> None:
    global bad
    first = True
    async for key, user in stream.items():
        if first:
            first = False
            Path(os.environ["T0FILE"]).write_text("")
        if user["age"] < 18:
            continue
        if not email(user["email"]):
            bad += 1
        user["age_group"] = "Young" if user["age"] < 30 else "Middle" if user["age"] < 50 else "Senior"
        await adults.send(key=key, value=user)


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "warn", "--without-web"]
    app.main()
