"""Records that would be skipped: who goes on nevertheless would lose them without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamcore.batch import Chunk, PartitionId
from streamcore.contracts import Log
from streamcore.errors import Permanent, TopicChanged


async def check_ends(log: Log, stands: Mapping[PartitionId, Mapping[str, int]]) -> None:
    """TopicChanged when a sink is ahead of its log: it would leave new records out as already seen.

    *stands*: for each partition the sinks' positions.
    """
    bounds = {topic: await log.bounds(topic) for topic in {source.topic for source in stands}}
    for source, sinks in stands.items():
        found = bounds[source.topic].get(source.partition)
        for sink, position in sinks.items():
            if found is not None and position > found.end:
                raise TopicChanged(
                    f"sink {sink!r} has records up to {position}, the log ends at {found.end}: "
                    "the topic was truncated",
                    where=str(source),
                    fix="find out what was lost, then remove the sink's stored position",
                )


def hole(chunk: Chunk, expected: int) -> Permanent:
    """What to raise for a *chunk* that begins behind the position *expected*."""
    return Permanent(
        "the transport skipped records",
        where=str(chunk.source),
        got=chunk.first,
        allowed=[expected],
        fix="start again, it goes on from what the sinks have; please report it",
    )


def check_holes(chunks: Sequence[Chunk], processed: Mapping[PartitionId, int]) -> None:
    """Permanent where one of *chunks* begins behind what is *processed*, or behind the one before it."""
    reached: dict[PartitionId, int] = {}
    for chunk in chunks:
        before = reached.get(chunk.source, processed[chunk.source])
        if chunk.first > before:
            raise hole(chunk, before)
        reached[chunk.source] = max(before, chunk.end)
