"""W1 on Quix Streams, with the settings that its users choose for throughput."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from quixstreams import Application

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
adults = app.topic(os.environ["OUT"], value_serializer="json")
email = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$").match
bad, first = 0, True


def adult(user: dict[str, Any]) -> bool:
    global first
    if first:
        first = False
        Path(os.environ["T0FILE"]).write_text("")
    return bool(user["age"] >= 18)


def grouped(user: dict[str, Any]) -> None:
    global bad
    if not email(str(user["email"])):
        bad += 1
    age = user["age"]
    user["age_group"] = "Young" if age < 30 else "Middle" if age < 50 else "Senior"


app.dataframe(users).filter(adult).update(grouped).to_topic(adults)
if __name__ == "__main__":
    app.run()
