"""Results of a state that came out before, when its log is read again: which sinks have or lack them.

Where the log has been cut behind a snapshot, its first results can't be made again. That matters to sinks
that are new, or come back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from streamcore.batch import Batch, Chunk, PartitionId, Range, hide, nothing_at
from streamcore.errors import Permanent
from streamcore.graph import Graph
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.sink_runner import SinkRunner


def pass_on(
    graph: Graph, runners: Mapping[str, SinkRunner], ledger: Ledger, results: Chunk, processed: int
) -> None:
    """Tell *runners* of *results*, which came out before the group's commit, those before them *processed*.

    What has no positions of its own had them. Behind a gap sinks begin, or Permanent says why they can't.
    """
    source, first = results.source, results.first
    for sink, runner in runners.items():
        if not runner.stores_positions:
            ledger.confirm(sink, {source: results.end})
        elif first > processed and sink in graph.sinks:
            position = ledger.sink_position(sink, source)
            if position < first:
                runner.put(from_now_on(graph, sink, source, position, first))


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
