"""W2 on Quix Streams, with the settings that its users choose for throughput."""

from __future__ import annotations

import os
from pathlib import Path

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

app = Application(
    broker_address=os.environ["BROKER"],
    consumer_group=os.environ["GROUP"],
    auto_offset_reset="earliest",
    loglevel="WARNING",
    state_dir=os.environ["WORK"] + "/quix",
    commit_interval=5.0,
    consumer_extra_config={"fetch.message.max.bytes": 4 << 20, "queued.max.messages.kbytes": 200_000},
    producer_extra_config={
        "linger.ms": int(os.environ.get("LINGER", "20")),
        "compression.type": "lz4",
        "batch.size": 262_144,
        "queue.buffering.max.messages": 500_000,
    },
)
users = app.topic(os.environ["IN"], value_deserializer="json")
windows = app.topic(os.environ["OUT"], value_serializer="json")
first = True


def tell(user: dict[str, object]) -> None:
    global first
    if first:
        first = False
        Path(os.environ["T0FILE"]).write_text("")


stream = app.dataframe(users).update(tell).tumbling_window(10_000, grace_ms=0)
stream.agg(count=Count(), sum=Sum("salary")).final(closing_strategy="partition").to_topic(windows)
if __name__ == "__main__":
    app.run()
