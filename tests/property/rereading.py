"""A snapshot as another process has it, which reads its records."""

from __future__ import annotations

from streamcore.state.snapshot import Snapshot, SnapshotReader
from streamcore.stateful_task import StatefulTask


def reread(snapshot: Snapshot, task: StatefulTask) -> Snapshot:
    """*snapshot*, read from its records for *task*."""
    reader = SnapshotReader(snapshot.as_of, task.places)
    (found,) = filter(None, [reader.add(value) for value in snapshot.records("one", 200)])
    return found
