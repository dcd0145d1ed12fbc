"""What the workers of a simulated run share, and with which errors they may end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamcore.errors import Fenced, StreamcoreError, TopicChanged, Transient
from streamcore.graph import Graph

GROUP = "sim"
HEARTBEAT, SESSION, REBALANCE = 0.25, 1.5, 2.0
"""Seconds: between heartbeats, until a silent member is dropped, and that a round waits for the slow."""


@dataclass(frozen=True)
class Job:
    """What all workers of a run share."""

    graph: Graph
    streams: Mapping[str, str]
    partitions: Mapping[str, int]
    snapshot_bytes: int
    bounded: bool
    """Partitions end once all their records are there."""
    markers: Mapping[tuple[str, int], frozenset[int]]
    """Offsets that hold no record, as the ends of transactions do."""
    commit_every: float
    memory_limit: int
    most_records: int
    state_dir: Path
    state_memory: int
    """What all state may take of memory; the rest lies in files of *state_dir*."""
    lives_differ: bool
    """Some lives read record by record, others much at once: what is made again is cut otherwise."""
    standbys: bool
    """Workers keep states of each other's partitions too."""
    pace: float
    """Seconds between two chunks of a topic, at most: so that work lasts while faults come."""


def is_expected(error: BaseException) -> bool:
    """Whether a worker may end with *error*: it lost its partitions, or the outside failed for too long."""
    if isinstance(error, Fenced | Transient):
        return True
    if isinstance(error, TopicChanged) and ".log/" in str(error):
        return True  # a former owner's trim came while the log was being read
    return isinstance(error, StreamcoreError) and isinstance(error.__cause__, Transient)
