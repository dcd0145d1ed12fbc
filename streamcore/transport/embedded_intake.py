"""Rows of an unbounded source into the embedded log: the log itself says how far the source was read.

The rows of an append and their bookmark are one block (:mod:`.embedded_blocks`), of which a crash leaves
all or nothing. The block's last record has the header ``sc-intake``: the bookmarks of all lanes that fed
the topic, each with the position of its block, since two appends may have the same one. The log keeps its
last block whatever is dropped, so what it says is always there. Consumers see a block when it is durable.

A bookmark that is kept without rows lies beside the log, with what the log says of the append that it is
behind; when that is not the lane's last one any more it means nothing.

The topic has one partition, since blocks of several would not be one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

import orjson
import pyarrow as pa

from streamcore.contracts import Lane, Records
from streamcore.errors import Fenced, Permanent
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.log import PartitionLog

HEADER = "sc-intake"


class EmbeddedIntake:
    """See :class:`streamcore.contracts.unbounded.Intake`."""

    def __init__(self, broker: Broker, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> None:
        self._broker, self._topic, self._lane, self._crash_point = broker, topic, lane, crash_point
        self._opened = False
        self._known: dict[str, str] = {}
        """What the log says when it ends at ``_known_at``."""
        self._known_at = -1

    async def open(self) -> bytes:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        if self._opened:
            self._check()
        self._broker.owners[self._lane.name] = self
        self._opened = True
        await self._broker.synced()  # an append that was broken off may be in the log, and not durable
        last = self._last()
        after, kept = self._broker.kept(self._topic).get(self._lane.name, (b"", b""))
        return kept if after == last.encode() else base64.b64decode(last.partition(":")[0])

    def _check(self) -> None:
        if self._broker.owners.get(self._lane.name) is not self:
            raise Fenced("somebody else feeds this stream by now", where=self._topic)

    def _log(self) -> PartitionLog:
        found = self._broker.topic(self._topic)
        if found is None or len(found.logs) != 1:
            raise Permanent(
                "an unbounded source needs a topic of one partition",
                where=f"topic {self._topic} of {self._broker.url}",
                got="no topic" if found is None else len(found),
                fix="take another --state-dir",
            )
        return found.logs[0]

    async def append(self, records: Records, bookmark: bytes) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        log = self._log()
        await self._broker.room(self._topic, 0, to_batch(records).nbytes)
        self._check()
        known = self._known if self._known_at == log.end else _said(log)
        known = {**known, self._lane.name: f"{base64.b64encode(bookmark).decode()}:{log.end}"}
        last = pa.array([b""] * (len(records) - 1) + [orjson.dumps(known)], pa.binary())
        marked = replace(records, headers=(*records.headers, (HEADER, last)))
        self._broker.append(self._topic, 0, to_batch(marked), whole=True)
        self._known, self._known_at = known, log.end
        self._crash_point("intake.before_commit")
        await self._broker.synced()

    async def keep(self, bookmark: bytes) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        self._check()
        await self._broker.keep(self._topic, self._lane.name, self._last().encode(), bookmark)

    async def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""

    def _last(self) -> str:
        """What the log says of the lane's last append: ``bookmark:position``, "" when there was none."""
        return _said(self._log()).get(self._lane.name, "")


def _said(log: PartitionLog) -> dict[str, str]:
    """What the last record of *log* says, by the names of the lanes."""
    last = log.read(log.end - 1, 1) if log.end > log.first else None
    said = None if last is None else dict(last.headers(log.end - 1)).get(HEADER)
    return {lane: str(mark) for lane, mark in orjson.loads(said or b"{}").items()}
