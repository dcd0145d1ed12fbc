"""From settings to what the parts of a running topology are told."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamcore.errors import BadConfig
from streamcore.graph import Graph, Source
from streamcore.runtime.retry import Retries
from streamcore.runtime.standbys import Commits
from streamcore.runtime.state_copies import Copies
from streamcore.runtime.state_disk import Disk
from streamcore.runtime.state_logs import StateLog
from streamcore.settings import Settings

REDRIVE_SUFFIX = ".redrive"


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What a pipeline needs to know beyond its graph; limits in bytes."""

    dead_letter_topic: str
    redrive_topic: str
    memory_limit: int = 256 << 20
    snapshot_bytes: int = 128 << 20
    """A log of state grows by so much between two snapshots."""
    state_dir: Path = Path(".streamcore")
    """Runs of state that are too large for memory lie here."""
    state_memory: int = 512 << 20
    """What all state together may take of memory, about."""
    copies: Copies | None = None
    """Where snapshots are copied to; None: nowhere."""
    commits: Commits | None = None
    """What the group has committed, for standbys; None: there are none."""
    state_logs: Mapping[str, StateLog] = field(default_factory=dict)
    """By topic. Without them the graph has no stateful nodes."""
    retries: Retries = field(default_factory=Retries)
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    clock: Callable[[], float] = time.time

    def place(self, partitions: int) -> Disk:
        """Where large runs of state lie, when so many partitions of state share the memory."""
        return Disk(self.state_dir, self.state_memory // max(partitions, 1), pages=self.state_memory)


def pipeline_options_of(settings: Settings, topology: str) -> PipelineOptions:
    """The pipeline's options as *settings* say."""
    return PipelineOptions(
        dead_letter_topic=settings.dead_letter_topic(topology),
        redrive_topic=topology + REDRIVE_SUFFIX,
        memory_limit=settings.limits.memory_mb << 20,
        snapshot_bytes=settings.state.snapshot_mb << 20,
        state_dir=settings.state.dir,
        state_memory=settings.state.memory_mb << 20,
        retries=Retries(settings.retry.initial_s, settings.retry.max_s, settings.retry.give_up_after_s),
    )


def streams_by_topic(graph: Graph) -> dict[str, str]:
    """The topic that each stream of *graph* reads in a worker, and the stream's name.

    BadConfig when two of them read one topic: a group gives each of its records to one of them only.
    """
    sources = [node.part for node in graph.sources.values() if isinstance(node.part, Source)]
    for source in sources:
        if same := [other.name for other in sources if other.topic == source.topic and other != source]:
            raise BadConfig(
                f"streams {source.name!r} and {same[0]!r} read the same topic",
                got=source.topic,
                fix="declare it once and branch the stream",
            )
    return {source.topic: source.name for source in sources}
