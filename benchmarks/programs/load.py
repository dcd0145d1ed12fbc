"""Sends users at a steady rate, reads what comes out, prints latencies as JSON. Runs in .venv-bench.

Environment: BROKER, IN, OUT, RATE (messages a second), SECONDS, WARM (seconds not counted). Latency is
the arrival here minus the time in the message's ``ts``, on one host's clock, in milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

E = os.environ
RATE, SECONDS, WARM = int(E["RATE"]), float(E["SECONDS"]), float(E["WARM"])


def message(number: int) -> tuple[bytes, bytes]:
    user = random.randrange(10_000)
    body = {
        "event_id": number,
        "user_id": user,
        "email": f"user{user}@example.com" if number % 50 else "bad",
        "age": 18 + number % 60 if number >= 0 else 50,
        "salary": random.random() * 1e5,
        "action": "login",
        "ts": round(time.time() * 1000),
    }
    return str(user).encode(), json.dumps(body).encode()


class Reader(threading.Thread):
    """Collects (sent, latency) of every message that arrives, in milliseconds."""

    def __init__(self, partitions: int) -> None:
        super().__init__(daemon=True)
        config = {
            "bootstrap.servers": E["BROKER"],
            "group.id": f"load-{random.random()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
        }
        self.consumer = Consumer(config)
        self.consumer.assign([TopicPartition(E["OUT"], p, 0) for p in range(partitions)])
        self.seen: list[tuple[int, float]] = []
        self.probes = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            first = self.consumer.poll(0.1)
            now = time.time() * 1000
            # Not consume(1000, some time) alone: it holds what has come until that time is over.
            for record in [] if first is None else [first, *self.consumer.consume(1000, 0)]:
                if record.error():
                    continue
                row = json.loads(record.value())
                if row["event_id"] >= 0:
                    self.seen.append((row["ts"], now - row["ts"]))
                else:
                    self.probes += 1


def main() -> None:
    partitions = int(E.get("PARTITIONS", "4"))
    reader = Reader(partitions)
    reader.start()
    producer = Producer({"bootstrap.servers": E["BROKER"], "linger.ms": 1})
    deadline = time.time() + 60
    while not reader.probes and time.time() < deadline:  # until the program answers
        for p in range(partitions):
            key, value = message(-1)
            producer.produce(E["IN"], value, key=key, partition=p)
        producer.flush()
        time.sleep(0.5)
    time.sleep(2)
    began, sent = time.time(), 0
    while (elapsed := time.time() - began) < SECONDS:
        while sent < elapsed * RATE:
            key, value = message(sent)
            producer.produce(E["IN"], value, key=key)
            sent += 1
        producer.poll(0)
        time.sleep(0.002)
    producer.flush()
    time.sleep(3)
    reader.stopped = True
    reader.join()
    counted = sorted(latency for at, latency in reader.seen if at > (began + WARM) * 1000)

    def quantile(q: float) -> float:
        return counted[int(q * (len(counted) - 1))] if counted else float("nan")

    result = {"sent": sent, "arrived": len(reader.seen), "p50": quantile(0.5), "p99": quantile(0.99)}
    print(json.dumps({**result, "max": quantile(1.0)}))


main()
