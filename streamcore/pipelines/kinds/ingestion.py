"""A source into a destination, by :class:`streamcore.engines.ingestion.BatchIngestionEngine`.

Exactly once with sinks that are: the run of the ingestion has the name of the task in its run, so an attempt
goes on where a lost one stood. What it has written is the dataset of the task's own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.kinds.datasets import SourceConfig, as_source, effect_name

if TYPE_CHECKING:
    from streamcore.engines.ingestion import IngestionMetrics


class IngestionOptions(Options):
    """From where, to where."""

    source_config: SourceConfig = Field(repr=False, description="A path, a URI or a source's dictionary.")
    destination_config: SourceConfig = Field(repr=False, description="A path, a URI or a sink's dictionary.")
    config: dict[str, Any] = Field(
        default_factory=dict, description="Fields of BatchIngestionConfig, e.g. memory_limit, columns."
    )


async def run(options: IngestionOptions, context: TaskContext) -> TaskResult:
    """Ingest it to its end."""
    from streamcore.engines.ingestion import BatchIngestionConfig, BatchIngestionEngine

    metrics = await BatchIngestionEngine(BatchIngestionConfig(**options.config)).ingest_data(
        options.source_config,
        options.destination_config,
        run_id=effect_name(context),
        on_progress=lambda progress: context.report(progress.rows_in, progress.bytes_in),
    )
    return result_of(metrics, options.destination_config, context)


def result_of(metrics: IngestionMetrics, destination: SourceConfig, context: TaskContext) -> TaskResult:
    """What an ingestion did: what it has written is the dataset of the task's own name."""
    message = str(metrics.status)
    if metrics.failed_records:
        message += f", {metrics.failed_records} dead letters in {metrics.dead_letter_log}"
    return TaskResult(
        datasets={context.task_id: as_source(destination)},
        rows=metrics.processed_records,
        bytes=metrics.bytes,
        message=message,
    )


INGESTION = Kind(
    IngestionOptions, run, in_child=lambda options: True, ahead=("streamcore.engines.ingestion",)
)
