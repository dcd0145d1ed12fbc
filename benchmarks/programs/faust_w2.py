"""W2 on plain Faust: a tumbling table by event time, results when its windows expire."""

from __future__ import annotations

import os
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
    table_cleanup_interval=1.0,
    consumer_max_fetch_size=4 << 20,
    producer_linger_ms=20,
    producer_max_batch_size=262_144,
    producer_compression_type="lz4",
    producer_acks=-1,
)
events = app.topic(os.environ["IN"], key_type=bytes, key_serializer="raw", value_serializer="json")
windows = app.topic(
    os.environ["OUT"], key_type=bytes, key_serializer="raw", value_serializer="json", partitions=4
)


def closed(key: tuple[int, tuple[float, float]], value: list[float]) -> None:
    user, (start, _) = key
    result = {"user_id": user, "window_start": int(start * 1000), "count": value[0], "sum": value[1]}
    windows.send_soon(key=str(user).encode(), value=result)


table = app.Table("w", default=lambda: [0, 0.0], partitions=4, on_window_close=closed)
table = table.tumbling(10.0, expires=10.0).relative_to_stream()


@app.agent(events)
async def work(stream: faust.StreamT[Any]) -> None:
    first = True
    async for user in stream:
        if first:
            first = False
            Path(os.environ["T0FILE"]).write_text("")
        seen = table[user["user_id"]].current()
        table[user["user_id"]] = [seen[0] + 1, seen[1] + user["salary"]]


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "warn", "--without-web"]
    app.main()
