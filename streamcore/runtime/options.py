"""From settings to what the parts of a running topology are told."""

from __future__ import annotations

from streamcore.graph import Graph, Source
from streamcore.runtime.pipeline import PipelineOptions
from streamcore.runtime.retry import Retries
from streamcore.settings import Settings

REDRIVE_SUFFIX = ".redrive"


def pipeline_options_of(settings: Settings, topology: str) -> PipelineOptions:
    """The pipeline's options as *settings* say."""
    return PipelineOptions(
        dead_letter_topic=settings.dead_letter_topic(topology),
        redrive_topic=topology + REDRIVE_SUFFIX,
        memory_limit=settings.limits.memory_mb << 20,
        retries=Retries(settings.retry.initial_s, settings.retry.max_s, settings.retry.give_up_after_s),
    )


def streams_by_topic(graph: Graph) -> dict[str, str]:
    """The topic that each stream of *graph* reads in a worker, and the stream's name."""
    sources = [node.part for node in graph.sources.values() if isinstance(node.part, Source)]
    return {source.topic: source.name for source in sources}
