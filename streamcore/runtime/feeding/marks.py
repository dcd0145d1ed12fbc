"""What is known of each replay into a topic: the control topic, and the replay's own rows in the topic.

The control topic ``{topology}.replays`` is compacted and holds one record a run: it began when the
topic ended there and there, it ended there and there. Those ends are the stream's end markers; readers
other than ours never see them. What of an unfinished run is in the topic is read from its rows' headers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa

from streamcore.batch import Range
from streamcore.contracts import Log, Records
from streamcore.errors import TopicChanged
from streamcore.runtime.feeding.records import AT, REPLAY, At, Label, unpack_at

CONTROL_SUFFIX = ".replays"
_COMPACTED = {"cleanup.policy": "compact"}

State: TypeAlias = Literal["started", "ended", "done"]
"""``done``: of a replay on topics of its own, which are gone or may go."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Run *run* of the plan *name* into *topic*. ``starts`` and ``ends``: the topic's end offset of each
    partition when it began and ended; ``rows``: how many rows it wrote, known at the end.
    ``bookmarks``: those at which its splits began, in base64.
    """

    name: str
    run: int
    topic: str
    starts: Mapping[int, int]
    state: State = "started"
    ends: Mapping[int, int] = field(default_factory=dict)
    rows: int = 0
    bookmarks: Sequence[str] = ()

    @property
    def replay(self) -> str:
        """The id that its rows carry."""
        return f"{self.name}-{self.run}"

    def pack(self) -> bytes:
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def unpack(cls, data: bytes) -> Mark:
        known = orjson.loads(data)
        for offsets in ("starts", "ends"):
            known[offsets] = {int(partition): offset for partition, offset in known[offsets].items()}
        known["bookmarks"] = tuple(known.get("bookmarks", ()))
        return cls(**known)


class Marks:
    """The control topic of *topology*."""

    def __init__(self, log: Log, topology: str) -> None:
        self._log, self._topic = log, topology + CONTROL_SUFFIX

    async def latest(self) -> dict[str, Mark]:
        """The last run of every plan, by the plan's name. Makes the topic on first use."""
        await self._log.create(self._topic, 1, _COMPACTED)
        found: dict[str, Mark] = {}
        bounds = (await self._log.bounds(self._topic))[0]
        async for chunk in self._log.scan(self._topic, 0, *bounds):
            for value in chunk.values():
                mark = Mark.unpack(value or b"")
                if mark.name not in found or mark.run >= found[mark.name].run:
                    found[mark.name] = mark
        return found

    async def write(self, mark: Mark) -> None:
        """Durable on return."""
        now = np.array([time.time_ns() // 1_000_000], np.int64)
        key, value = pa.array([mark.replay.encode()], pa.binary()), pa.array([mark.pack()], pa.binary())
        await (await self._log.append(self._topic, Records(value, now, key)))


@dataclass(slots=True)
class Written:
    """What of a run is in its topic: per (partition, split) the last place, and its chunk's label."""

    partitions: int
    last: dict[tuple[int, int], At] = field(default_factory=dict)
    firsts: dict[tuple[int, int], Label] = field(default_factory=dict)
    rows: int = 0

    def first(self, split: int, begin: Label) -> Label:
        """Where to read *split*, which begins at *begin*, so that no partition misses a row."""
        labels = [self.firsts.get((partition, split), begin) for partition in range(self.partitions)]
        return min(labels, key=attrgetter("first"))


async def written(log: Log, mark: Mark) -> Written:
    """What of *mark*'s run is in its topic. TopicChanged when that is not the topic it began with."""
    bounds = await log.bounds(mark.topic)
    _check(mark, bounds)
    found = Written(len(bounds))
    for partition, start in mark.starts.items():
        async for chunk in log.scan(mark.topic, partition, start, bounds[partition].end):
            for offset in chunk.offsets().tolist():
                headers = dict(chunk.headers(offset))
                label = Label.unpack(headers[REPLAY]) if REPLAY in headers else None
                if label is not None and label.replay == mark.replay:
                    found.last[partition, label.split] = unpack_at(headers[AT])
                    found.firsts[partition, label.split] = label
                    found.rows += 1
    return found


def _check(mark: Mark, bounds: Mapping[int, Range]) -> None:
    if set(bounds) != set(mark.starts):
        raise TopicChanged(
            "the topic has other partitions than when the replay began",
            where=mark.topic,
            got=len(bounds),
            allowed=[len(mark.starts)],
            fix="its keys are spread anew; --again replays all rows once more",
        )
    for partition, start in mark.starts.items():
        if not bounds[partition].start <= start <= bounds[partition].end:
            raise TopicChanged(
                "the topic was made again, or its retention deleted rows of this replay",
                where=f"{mark.topic}/{partition}",
                got=f"offsets {bounds[partition].start} to {bounds[partition].end}",
                allowed=[start],
                fix="--again replays all rows once more",
            )


def ended(mark: Mark, bounds: Mapping[int, Range], rows: int) -> Mark:
    """*mark* at its end, with the end markers."""
    ends = {partition: found.end for partition, found in bounds.items()}
    return dataclasses.replace(mark, state="ended", ends=ends, rows=rows)
