"""A topology, replayed over sources that end, as ``streamcore replay`` does it.

Exactly once with sinks that are: the replay's own name is made from the run and the task, so an attempt that
follows a lost one goes on where its sinks stand, and one after the effect finds it finished. Of sources with
a mark each run reads what is new since the last one, whatever attempts it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import Dataset, Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.kinds.datasets import SourceConfig, effect_name

if TYPE_CHECKING:
    from streamcore.progress import OnProgress, Summary
    from streamcore.topology import Topology


class ReplayTaskOptions(Options):
    """Which topology, over what."""

    topology: str = Field(description="package.module, or path/to/file.py, either with :variable.")
    sources: dict[str, SourceConfig] = Field(
        min_length=1,
        repr=False,
        description="What each stream reads: a path, a URI or a source's dictionary, e.g. ${dataset:NAME}.",
    )
    limit: int | None = Field(None, ge=1, description="Read so many rows of each stream at most.")
    state_dir: Path | None = Field(
        None, description="Folder of the embedded log and dead letters; state.dir when not set."
    )


async def run(options: ReplayTaskOptions, context: TaskContext) -> TaskResult:
    """Replay it to its end."""
    from batch_adapters.catalogue import open_source
    from streamcore.runtime.live import catch_up, changes_of
    from streamcore.runtime.loading import load_topology
    from streamcore.runtime.replay import ReplayOptions, replay
    from streamcore.settings import load

    given = {"state.dir": ("state_dir", str(options.state_dir))} if options.state_dir else None
    settings = load(given).settings
    topology = load_topology(options.topology)
    sources = {stream: open_source(source) for stream, source in options.sources.items()}
    how = ReplayOptions(settings=settings, limit=options.limit, run=effect_name(context))
    tell: OnProgress = lambda progress: context.report(progress.rows_in, progress.bytes_in)  # noqa: E731
    if changes := changes_of(sources):
        if options.limit:
            fix = "a run reads all that is new since the last one; leave one of the two away"
            raise BadConfig("limit does not go with mark=", where=context.task_id, got=options.limit, fix=fix)
        summary = await catch_up(topology, changes, how, tell)
    else:
        summary = await replay(topology, sources, how, tell)
    return TaskResult(
        datasets=_written(topology),
        rows=summary.progress.rows_in,
        bytes=summary.progress.bytes_in,
        message=_said(summary),
    )


def _written(topology: Topology) -> Mapping[str, Dataset]:
    """The folders of files that its sinks have written, by the sink's name, as sources."""
    found: dict[str, Dataset] = {}
    for name, node in topology.freeze().sinks.items():
        sink: Any = node.part
        if hasattr(sink, "path") and hasattr(sink, "format"):
            found[name] = {"type": "file", "file_path": str(sink.path)}
    return found


def _said(summary: Summary) -> str:
    progress = summary.progress
    parts = [summary.status, *(f"{name}: {rows} rows" for name, rows in progress.rows_out.items())]
    if progress.dead_letters:
        parts.append(f"{progress.dead_letters} dead letters, see streamcore dlq list {summary.topology}")
    return ", ".join(parts)


REPLAY = Kind(
    ReplayTaskOptions,
    run,
    in_child=lambda options: True,
    ahead=("batch_adapters.catalogue", "streamcore.runtime.replay"),
)
