"""Operations over a source into a destination, by :class:`streamcore.engines.etl.ETLEngine`.

Exactly once with sinks that are, as an ingestion is. Without ``source_config`` it reads what the task before
it has written.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.kinds.datasets import SourceConfig, effect_name, source_of
from streamcore.pipelines.kinds.ingestion import result_of


class TransformationOptions(Options):
    """What is done, from where, to where."""

    operations: tuple[dict[str, Any], ...] = Field(
        min_length=1, description="Operations of ETLEngine: filter, add_column, rename, cast_type and others."
    )
    source_config: SourceConfig | None = Field(
        None, repr=False, description="A path, a URI or a source's dictionary."
    )
    destination_config: SourceConfig = Field(repr=False, description="A path, a URI or a sink's dictionary.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Types of columns by name, where the first rows don't tell them."
    )


async def run(options: TransformationOptions, context: TaskContext) -> TaskResult:
    """Transform it to its end."""
    from streamcore.engines.etl import ETLEngine

    metrics = await ETLEngine().run(
        source_of(options.source_config, context),
        options.destination_config,
        list(options.operations),
        columns=options.columns or None,
        run_id=effect_name(context),
        on_progress=lambda progress: context.report(progress.rows_in, progress.bytes_in),
    )
    return result_of(metrics, options.destination_config, context)


TRANSFORMATION = Kind(
    TransformationOptions, run, in_child=lambda options: True, ahead=("streamcore.engines.etl",)
)
