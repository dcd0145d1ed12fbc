"""Sinks that are new, or come back, behind a state whose log has been cut: its first results are gone."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamcore.batch import Batch, PartitionId, Range, hide, nothing_at
from streamcore.errors import Permanent
from streamcore.graph import Graph


def from_now_on(graph: Graph, sink: str, source: PartitionId, position: int, first: int) -> Batch:
    """What brings *sink* from *position* to *first*, the first result of *source* that can be made again.

    A sink that has nothing yet begins there, with no rows. Permanent for one that has results and lacks some,
    and for a new one that would get half a table.
    """
    node = graph.nodes[sink]
    if position > 0 or node.source.updates:
        lacks = "its table's rows" if node.source.updates else f"results from number {position} on"
        raise Permanent(
            f"sink {sink!r} lacks {lacks}, which can't be made again: the log was cut behind a snapshot",
            where=node.where,
            got=position,
            allowed=[f"{first} or more"],
            fix="run it as a topology of another name, which reads its streams from their start",
        )
    nothing = hide(pl.DataFrame(schema=node.columns), np.empty(0, np.int64))
    return Batch(nothing, {source: Range(position, first)}, nothing_at(source, first))
