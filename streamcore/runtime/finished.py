"""Which replays with windows are finished, kept beside the replay's other files.

The rows of windows are in memory while a replay runs, so a replay that was interrupted reads its
sources from the start; sinks leave out what they have. Once all windows are written that would be in
vain: the ends of the partitions are noted, and a later run begins there. A topology with other sinks or
windows begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from streamcore.batch import PartitionId
from streamcore.graph import Graph
from streamcore.runtime.window_streams import declared


class FinishedReplays:
    """The note in *folder* for *graph*."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        self._file = folder / "finished.json"
        told = [declared(graph, window) for window in graph.windows]
        self._graph = hashlib.sha256(repr((told, sorted(graph.sinks))).encode()).hexdigest()

    def ends(self, sources: Iterable[PartitionId]) -> dict[PartitionId, int]:
        """Where *sources* end if all of them are finished, otherwise nothing."""
        wanted, known = list(sources), self._read().get(self._graph, {})
        found = {source: known[_name(source)] for source in wanted if _name(source) in known}
        return found if len(found) == len(wanted) else {}

    def note(self, ends: Mapping[PartitionId, int]) -> None:
        """All windows over partitions that end at *ends* are written."""
        every = self._read()
        every[self._graph] = every.get(self._graph, {}) | {_name(s): end for s, end in ends.items()}
        aside = self._file.with_suffix(".tmp")
        aside.write_bytes(orjson.dumps(every))
        aside.replace(self._file)

    def _read(self) -> dict[str, dict[str, int]]:
        if not self._file.exists():
            return {}
        found: dict[str, dict[str, int]] = orjson.loads(self._file.read_bytes())
        return found


def _name(source: PartitionId) -> str:
    return f"{source.topic_id}/{source.partition}"
