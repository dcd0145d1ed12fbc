"""Topics behind windows, written in transactions, as a reader of committed records sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aiokafka import ConsumerRecord

from tests.faults.feed import make_topics
from tests.faults.targets import ExactTopicTarget
from tests.faults.window_oracle import Seen
from tests.faults.window_targets import SINKS, WindowsSeen
from tests.services.kafka_topics import committed_records, stored_positions

_PATIENCE = 20.0
_COLUMNS = {
    "shops": ("shop", "window_start", "window_end", "counted", "total"),
    "spans": ("window_start", "window_end", "windows", "counted"),
}


class WindowTopics(ExactTopicTarget):
    """A topic for each sink.

    A look reads the positions first, then the topics: what was committed meanwhile is left out by where it
    came from, so that rows and positions are of one moment.
    """

    async def prepare(self) -> None:
        await make_topics(self._bootstrap, *(f"{self.address}-{sink}" for sink in SINKS))

    async def positions(self) -> Mapping[int, int]:
        found = await stored_positions(self._bootstrap, self._positions, patience=0.1)
        return self._late(found)

    def _late(self, stored: list[dict[str, Any]]) -> dict[int, int]:
        mine = [v for v in stored if v["sink"] == "late" and v["topic"] == self._source]  # not the redrive's
        return {value["partition"]: value["position"] for value in mine}

    async def windows(self) -> set[tuple[str | None, int]]:
        """The windows of shops that are there."""
        found = [json.loads(record.value) for record in await self._records("shops", patience=0.1)]
        return {(row["shop"], row["window_start"]) for row in found}

    async def look(self) -> WindowsSeen:  # type: ignore[override]
        stored = await stored_positions(self._bootstrap, self._positions, patience=_PATIENCE)
        rows = {sink: await self._rows(sink, stored) for sink in SINKS}
        shops, spans = ([tuple(r[c] for c in _COLUMNS[s]) for r in rows[s]] for s in ("shops", "spans"))
        numbers = {sink: sum(v["position"] for v in stored if v["sink"] == sink) for sink in _COLUMNS}
        return WindowsSeen(
            self._late(stored), Seen(shops, spans, [row["id"] for row in rows["late"]]), numbers
        )

    async def _rows(self, sink: str, stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of *sink* that lie before its stored positions."""
        ends = {_source(value): value["position"] for value in stored if value["sink"] == sink}
        found = await self._records(sink, patience=_PATIENCE)
        found.sort(key=lambda record: _offset(record) if record.key is None else 0)  # in any partition
        return [json.loads(record.value) for record in found if _offset(record) < ends.get(_name(record), 0)]

    async def _records(self, sink: str, patience: float) -> list[ConsumerRecord]:
        return await committed_records(self._bootstrap, f"{self.address}-{sink}", patience)


def _source(value: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(f"{value['topic_id']}/{value['partition']}".encode()).digest()[:8]


def _name(record: ConsumerRecord) -> bytes:
    return bytes(dict(record.headers)["sc-position"][:8])


def _offset(record: ConsumerRecord) -> int:
    return int.from_bytes(dict(record.headers)["sc-position"][8:16], "big", signed=True)
