"""Reading dead letters: for people (list, show) and for a resume (which rows are refused already)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.deadletter.record import DeadLetter, from_chunk
from streamcore.passage import RowId

_LOOK_BACK = 5_000  # records of the first look at the end of the topic; doubled until it suffices


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters: all fields that are set must fit. Times are seconds since the epoch."""

    code: str | None = None
    stage: str | None = None
    stream: str | None = None
    since: float | None = None
    until: float | None = None
    ids: frozenset[str] | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """True when *letter* passes all that is set."""
        return (
            (self.code is None or letter.code == self.code)
            and (self.stage is None or letter.stage == self.stage)
            and (self.stream is None or letter.stream == self.stream)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
            and (self.ids is None or letter.id in self.ids)
        )


async def read(log: Log, topic: str, only: Filter | None = None) -> AsyncIterator[DeadLetter]:
    """The dead letters of *topic* that fit, each id once (its first record), partition by partition."""
    seen: set[str] = set()
    for partition, (start, end) in sorted((await log.bounds(topic)).items()):
        async for chunk in log.scan(topic, partition, start, end):
            for letter in from_chunk(chunk):
                if letter.id not in seen and (only is None or only.fits(letter)):
                    seen.add(letter.id)
                    yield letter


async def refused_since(log: Log, topic: str, source: PartitionId, position: int) -> list[RowId]:
    """Rows of *source* at or after *position* that are dead letters already.

    The letters of one source partition lie in one partition of the topic, roughly in the order of its
    positions: a slow sink refuses late, a restart repeats. Each says below which position all letters
    before it are, so the topic is read backwards, in growing pieces, until one says *position* or less. Some
    come in transactions: one that is open, of any source, hides what lies behind it.
    """
    bounds = await log.bounds(topic, settled=True)
    if not bounds:
        return []
    partition = source.partition % len(bounds)
    start, end = bounds[partition]
    look_back = _LOOK_BACK
    while True:
        begin = max(start, end - look_back)
        found: set[RowId] = set()
        older = begin == start
        async for chunk in log.scan(topic, partition, begin, end):
            for letter in from_chunk(chunk):
                if letter.source != source:
                    continue
                older |= letter.until is not None and letter.until <= position
                if letter.offset >= position:
                    found.add(RowId(letter.stage, letter.offset, letter.sub))
        if older:
            return sorted(found)
        look_back *= 4
