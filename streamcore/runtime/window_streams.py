"""Windows as streams with positions of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from streamcore.batch import PartitionId
from streamcore.graph import Graph, Window


def window_streams(
    graph: Graph, streams: Mapping[str, str], sources: Sequence[PartitionId]
) -> dict[str, tuple[PartitionId, list[PartitionId]]]:
    """For each window of *graph* the stream of its rows, and which of *sources* feed it.

    *streams* maps topics to names of streams. It is another stream when the window is declared otherwise
    or reads something else: its rows would have other numbers.
    """
    found = {}
    for window, node in graph.windows.items():
        assert isinstance(node.part, Window)
        upstream = sorted(s for s in sources if window in windows_fed(graph, streams, s))
        read = [(source.topic_id, source.partition) for source in upstream]
        digest = hashlib.sha256(f"{node.part.operator.definition} {read}".encode()).hexdigest()
        found[window] = (PartitionId(f"{graph.name}/{window}", 0, f"window/{digest[:32]}"), upstream)
    return found


def windows_fed(graph: Graph, streams: Mapping[str, str], source: PartitionId) -> tuple[str, ...]:
    """The windows that the rows of *source* go to."""
    if source.topic not in streams:
        return ()
    node = graph.sources[streams[source.topic]].id
    return tuple(n for n in graph.stage(node) if n in graph.windows)
