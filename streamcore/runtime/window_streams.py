"""Windows as streams with positions of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from streamcore.batch import PartitionId
from streamcore.graph import Graph, Window, label


def window_streams(
    graph: Graph, streams: Mapping[str, str], sources: Sequence[PartitionId]
) -> dict[str, tuple[PartitionId, list[PartitionId]]]:
    """For each window of *graph* the stream of its rows, and which of *sources* feed it.

    *streams* maps topics to names of streams. It is another stream when the window or a step before it is
    declared otherwise, or when something else is read: its rows would have other numbers.
    """
    found = {}
    for window in graph.windows:
        upstream = sorted(s for s in sources if window in windows_fed(graph, streams, s))
        read = [(source.topic_id, source.partition) for source in upstream]
        digest = hashlib.sha256(f"{declared(graph, window)} {read}".encode()).hexdigest()
        found[window] = (PartitionId(f"{graph.name}/{window}", 0, f"window/{digest[:32]}"), upstream)
    return found


def declared(graph: Graph, window: str) -> str:
    """What *window* computes of what, as text: equal in each process for the same declaration."""
    part = graph.nodes[window].part
    assert isinstance(part, Window)
    before = [node for node in graph.nodes.values() if node.id != window and window in graph.below(node.id)]
    steps = [(node.id, label(node), getattr(node.part, "text", "")) for node in before]
    return f"{part.operator.definition} {steps}"


def windows_fed(graph: Graph, streams: Mapping[str, str], source: PartitionId) -> tuple[str, ...]:
    """The windows that the rows of *source* go to."""
    if source.topic not in streams:
        return ()
    node = graph.sources[streams[source.topic]].id
    return tuple(n for n in graph.stage(node) if n in graph.windows)
