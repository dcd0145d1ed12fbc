"""streamcore: stream-first data pipelines. ``import streamcore as sc`` and declare a topology.

A lazy facade: names are imported when they are first used. Nothing inside of streamcore imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import Field as Field

    from batch_adapters.data_source import DataSource as DataSource
    from streamcore import references as references
    from streamcore import sinks as sinks
    from streamcore.batch import Batch as Batch
    from streamcore.cache import Cache as Cache
    from streamcore.cache import open_cache as open_cache
    from streamcore.engines.etl import ETLEngine as ETLEngine
    from streamcore.engines.ingestion import BatchIngestionConfig as BatchIngestionConfig
    from streamcore.engines.ingestion import BatchIngestionEngine as BatchIngestionEngine
    from streamcore.engines.processing import BatchProcessingConfig as BatchProcessingConfig
    from streamcore.engines.streaming import StreamIngestionEngine as StreamIngestionEngine
    from streamcore.engines.streaming import StreamProcessingConfig as StreamProcessingConfig
    from streamcore.engines.validator import DataValidator as DataValidator
    from streamcore.formats import Arrow as Arrow
    from streamcore.formats import Avro as Avro
    from streamcore.formats import Json as Json
    from streamcore.formats import JsonSchema as JsonSchema
    from streamcore.formats import Raw as Raw
    from streamcore.metadata.states import PipelineStatus as PipelineStatus
    from streamcore.metadata.states import TaskStatus as TaskStatus
    from streamcore.pipelines.kinds.contract import TaskContext as TaskContext
    from streamcore.pipelines.kinds.contract import TaskResult as TaskResult
    from streamcore.pipelines.kinds.contract import TaskSkipped as TaskSkipped
    from streamcore.pipelines.metrics import MetricsConfig as MetricsConfig
    from streamcore.pipelines.metrics import PipelineMetrics as PipelineMetrics
    from streamcore.pipelines.models import PipelineConfig as PipelineConfig
    from streamcore.pipelines.models import TaskConfig as TaskConfig
    from streamcore.pipelines.models import TaskType as TaskType
    from streamcore.pipelines.orchestrator import PipelineOrchestrator as PipelineOrchestrator
    from streamcore.pipelines.streams.events import PipelineEvent as PipelineEvent
    from streamcore.pipelines.yaml import load_pipeline as load_pipeline
    from streamcore.quality.validation_rule import ValidationRule as ValidationRule
    from streamcore.references import SchemaRegistry as SchemaRegistry
    from streamcore.schema import Event as Event
    from streamcore.stream import Stream as Stream
    from streamcore.times import PROCESSING_TIME as PROCESSING_TIME
    from streamcore.times import RECORD_TIME as RECORD_TIME
    from streamcore.topology import Topology as Topology
    from streamcore.transforms import masks as masks
    from streamcore.validation import rules as rules
    from streamcore.windows.assigners import global_window as global_window
    from streamcore.windows.assigners import hopping as hopping
    from streamcore.windows.assigners import session as session
    from streamcore.windows.assigners import tumbling as tumbling
    from streamcore.windows.counted import counted as counted
    from streamcore.windows.sliding import sliding as sliding

__version__ = "0.1.0"

_WHERE = {
    "Arrow": "streamcore.formats",
    "Avro": "streamcore.formats",
    "Batch": "streamcore.batch",
    "BatchIngestionConfig": "streamcore.engines.ingestion",
    "BatchIngestionEngine": "streamcore.engines.ingestion",
    "BatchProcessingConfig": "streamcore.engines.processing",
    "Cache": "streamcore.cache",
    "DataSource": "batch_adapters.data_source",
    "DataValidator": "streamcore.engines.validator",
    "ETLEngine": "streamcore.engines.etl",
    "Event": "streamcore.schema",
    "Field": "pydantic",
    "Json": "streamcore.formats",
    "JsonSchema": "streamcore.formats",
    "PROCESSING_TIME": "streamcore.times",
    "MetricsConfig": "streamcore.pipelines.metrics",
    "PipelineConfig": "streamcore.pipelines.models",
    "PipelineEvent": "streamcore.pipelines.streams.events",
    "PipelineMetrics": "streamcore.pipelines.metrics",
    "PipelineOrchestrator": "streamcore.pipelines.orchestrator",
    "PipelineStatus": "streamcore.metadata.states",
    "RECORD_TIME": "streamcore.times",
    "Raw": "streamcore.formats",
    "SchemaRegistry": "streamcore.references",
    "Stream": "streamcore.stream",
    "StreamIngestionEngine": "streamcore.engines.streaming",
    "StreamProcessingConfig": "streamcore.engines.streaming",
    "TaskConfig": "streamcore.pipelines.models",
    "TaskContext": "streamcore.pipelines.kinds.contract",
    "TaskResult": "streamcore.pipelines.kinds.contract",
    "TaskSkipped": "streamcore.pipelines.kinds.contract",
    "TaskStatus": "streamcore.metadata.states",
    "TaskType": "streamcore.pipelines.models",
    "Topology": "streamcore.topology",
    "ValidationRule": "streamcore.quality.validation_rule",
    "counted": "streamcore.windows.counted",
    "global_window": "streamcore.windows.assigners",
    "hopping": "streamcore.windows.assigners",
    "load_pipeline": "streamcore.pipelines.yaml",
    "open_cache": "streamcore.cache",
    "session": "streamcore.windows.assigners",
    "sliding": "streamcore.windows.sliding",
    "tumbling": "streamcore.windows.assigners",
}
_MODULES = {
    "masks": "streamcore.transforms.masks",
    "references": "streamcore.references",
    "rules": "streamcore.validation.rules",
    "sinks": "streamcore.sinks",
}

__all__ = [
    "PROCESSING_TIME",
    "RECORD_TIME",
    "Arrow",
    "Avro",
    "Batch",
    "BatchIngestionConfig",
    "BatchIngestionEngine",
    "BatchProcessingConfig",
    "Cache",
    "DataSource",
    "DataValidator",
    "ETLEngine",
    "Event",
    "Field",
    "Json",
    "JsonSchema",
    "MetricsConfig",
    "PipelineConfig",
    "PipelineEvent",
    "PipelineMetrics",
    "PipelineOrchestrator",
    "PipelineStatus",
    "Raw",
    "SchemaRegistry",
    "Stream",
    "StreamIngestionEngine",
    "StreamProcessingConfig",
    "TaskConfig",
    "TaskContext",
    "TaskResult",
    "TaskSkipped",
    "TaskStatus",
    "TaskType",
    "Topology",
    "ValidationRule",
    "counted",
    "global_window",
    "hopping",
    "load_pipeline",
    "masks",
    "open_cache",
    "references",
    "rules",
    "session",
    "sinks",
    "sliding",
    "tumbling",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"streamcore has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
