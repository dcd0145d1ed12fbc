"""A topology over a frame in memory: the same tasks as in a worker, without a broker, a log or a clock."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamcore.asking import nothing
from streamcore.batch import OFFSET, SUB, FrameChunk, PartitionId, Rejects, nothing_at
from streamcore.engines.folding import Folding
from streamcore.event_time import END
from streamcore.passage import Outcome
from streamcore.stateful_task import StatefulTasks
from streamcore.task import PartitionTask
from streamcore.topology import Topology

ROWS = 100_000
"""Rows of a chunk: larger ones gain nothing, and a step needs memory for one at a time."""


def over(topology: Topology, stream: str, frame: pl.DataFrame) -> Rejects:
    """Bring *frame* through *topology*, all of whose sinks fold, as its only *stream*, which ends with it.

    Returns the refused rows, whose ``_offset`` is their number in the frame, from 0. Rows behind stateless
    steps come in the frame's order. Nothing outside is looked up.
    """
    graph = topology.freeze()
    source = PartitionId(stream, 0, "frame")
    task = PartitionTask(graph, stream, source, clock=lambda: 0.0)
    windows = StatefulTasks(graph, [(stream, 0)], nothing)
    folds = {id: node.part.fold for id, node in graph.sinks.items() if isinstance(node.part, Folding)}
    rejects: list[Rejects] = []

    def take(made: Outcome) -> None:
        for outcome in windows.through(made):
            rejects.append(outcome.rejects)
            for sink in folds.keys() & outcome.writes.keys():
                folds[sink].add(0, outcome.writes[sink].frame)

    for at in range(0, frame.height, ROWS):
        part = frame[at : at + ROWS]
        places = np.arange(at, at + part.height, dtype=np.int64)
        take(task.on_chunk(FrameChunk(source, places, part, first=at, end=at + part.height), nothing))
    take(task.on_watermark(nothing_at(source, frame.height), END))
    joined = Rejects.join(rejects)
    return Rejects(joined.frame.sort(OFFSET, SUB)) if len(joined) else joined
