"""What a replay reads: which splits of which source feed which stream, checked before a row is read.

A plan's name is a hash of what is read and how it is cut, so that the same replay started again is
known as the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamcore.batch import FrameChunk, PartitionId
from streamcore.contracts import BoundedSource, Split
from streamcore.contracts.unbounded import Incremental
from streamcore.errors import BadConfig, did_you_mean
from streamcore.formats import decoder_for
from streamcore.graph import Graph, Node, Source
from streamcore.runtime.limiting import LimitedSplit
from streamcore.runtime.pacing import PacedSplit, Pacer


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What one stream reads. ``name``: 24 hexadecimal digits."""

    node: Node
    part: Source
    splits: tuple[Split, ...]
    name: str

    def bookmarks(self) -> list[str]:
        """The bookmarks of its splits in base64; none where the splits have none."""
        found = [base64.b64encode(split.bookmark).decode() for split in self.splits]
        return found if any(found) else []


def plan(
    graph: Graph,
    sources: Mapping[str, BoundedSource],
    *,
    splits: int,
    limit: int | None = None,
    pacer: Pacer | None = None,
    into: str = "",
) -> dict[str, StreamPlan]:
    """The plan of each stream; *into* tells ways of replaying into topics, and runs, apart.

    With a *limit* of rows (of each file) or a *pacer* a source is read in its own order, not in parts
    side by side.
    BadConfig for unknown streams, sources without the stream's columns or without an end, and pacing without
    event times.
    """
    check_streams(graph, sources)
    for source in sources.values():
        if isinstance(source, Incremental):
            fix = "call streamcore.runtime.live.catch_up, as streamcore replay does, or leave the mark away"
            raise BadConfig("only what is new of this source is to be read", where=source.uri, fix=fix)
    return {
        stream: _plan(graph, stream, source, 1 if limit or pacer else splits, limit, pacer, into)
        for stream, source in sources.items()
    }


def check_streams(graph: Graph, sources: Mapping[str, BoundedSource]) -> None:
    """BadConfig unless *sources* names streams of *graph*."""
    for stream in sources:
        if stream not in graph.sources:
            raise BadConfig(
                f"topology {graph.name!r} has no such stream",
                got=stream,
                allowed=list(graph.sources),
                fix=did_you_mean(stream, graph.sources),
            )
    if not sources:
        raise BadConfig("nothing to replay", fix="give --from STREAM=PATH", allowed=list(graph.sources))


def _plan(
    graph: Graph,
    stream: str,
    source: BoundedSource,
    wanted: int,
    limit: int | None,
    pacer: Pacer | None,
    into: str,
) -> StreamPlan:
    node = graph.sources[stream]
    part = node.part
    assert isinstance(part, Source)
    check_columns(part, source.columns())
    splits: Sequence[Split] = source.splits(wanted)
    if limit:
        splits = [LimitedSplit(split, limit) for split in splits]
    if pacer:
        splits = [_paced(split, part, pacer, node.where) for split in splits]
    identity = [graph.name, stream, source.uri, source.fingerprint(), str(limit), str(len(splits))]
    if pacer:  # its parts end elsewhere
        identity.append("paced")
    if into:
        identity += [into, part.topic]
    name = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    return StreamPlan(node, part, tuple(splits), name)


def check_columns(part: Source, columns: pl.Schema | None) -> None:
    """BadConfig when *columns*, those of a source, are not what the stream *part* needs; None: unknown."""
    if columns:
        nowhere = PartitionId(part.topic, 0, "check")
        empty = FrameChunk(nowhere, np.empty(0, np.int64), pl.DataFrame(schema=columns), first=0, end=0)
        decoder_for(part.format, part.schema).decode(empty)


def _paced(split: Split, part: Source, pacer: Pacer, where: str) -> PacedSplit:
    if part.event_time is None or part.time_of is not None:
        raise BadConfig(
            f"stream {part.name!r} has no event time to pace by",
            where=where,
            fix='declare event_time="column" on the stream, or leave --speed away',
        )
    return PacedSplit(split, decoder_for(part.format, part.schema), part.event_time, pacer)
