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
PARTITIONS = int(E.get("PARTITIONS", "4"))


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
    """Collects (sent, latency) of every message that arrives in *topic*, in milliseconds."""

    def __init__(self, topic: str) -> None:
        super().__init__(daemon=True)
        config = {
            "bootstrap.servers": E["BROKER"],
            "group.id": f"load-{random.random()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
        }
        self.consumer = Consumer(config)
        self.consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
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


class Load:
    """Sends users to *topic*, whose results *reader* reads."""

    def __init__(self, topic: str, reader: Reader) -> None:
        self.topic, self.reader, self.sent = topic, reader, 0
        self.producer = Producer({"bootstrap.servers": E["BROKER"], "linger.ms": 1})

    def begin(self) -> None:
        """Send until the program answers."""
        deadline = time.time() + 60
        while not self.reader.probes and time.time() < deadline:
            for p in range(PARTITIONS):
                key, value = message(-1)
                self.producer.produce(self.topic, value, key=key, partition=p)
            self.producer.flush()
            time.sleep(0.5)

    def send(self, rate: int, seconds: float) -> float:
        """Send *rate* messages a second; when the first one was sent."""
        began, before = time.time(), self.sent
        while (elapsed := time.time() - began) < seconds:
            while self.sent - before < elapsed * rate:
                key, value = message(self.sent)
                self.producer.produce(self.topic, value, key=key)
                self.sent += 1
            self.producer.poll(0)
            time.sleep(0.002)
        self.producer.flush()
        return began


def quantiles(latencies: list[float], *which: float) -> list[float]:
    counted = sorted(latencies)
    return [counted[int(q * (len(counted) - 1))] if counted else float("nan") for q in which]


def main() -> None:
    reader = Reader(E["OUT"])
    reader.start()
    load = Load(E["IN"], reader)
    load.begin()
    time.sleep(2)
    began = load.send(int(E["RATE"]), float(E["SECONDS"]))
    time.sleep(3)
    reader.stopped = True
    reader.join()
    first = (began + float(E["WARM"])) * 1000
    p50, p99, most = quantiles([latency for at, latency in reader.seen if at > first], 0.5, 0.99, 1.0)
    print(json.dumps({"sent": load.sent, "arrived": len(reader.seen), "p50": p50, "p99": p99, "max": most}))


if __name__ == "__main__":
    main()
