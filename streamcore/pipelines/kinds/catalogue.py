"""All types of tasks. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.pipelines.kinds.command import COMMAND
from streamcore.pipelines.kinds.contract import Kind
from streamcore.pipelines.kinds.empty import EMPTY
from streamcore.pipelines.kinds.ingestion import INGESTION
from streamcore.pipelines.kinds.notification import NOTIFICATION
from streamcore.pipelines.kinds.python import PYTHON
from streamcore.pipelines.kinds.quality_report import QUALITY_REPORT
from streamcore.pipelines.kinds.replay import REPLAY
from streamcore.pipelines.kinds.sensor import SENSOR
from streamcore.pipelines.kinds.sql import SQL
from streamcore.pipelines.kinds.transformation import TRANSFORMATION
from streamcore.pipelines.kinds.validation import VALIDATION
from streamcore.pipelines.models import TaskType

KINDS: Mapping[TaskType, Kind[Any]] = {
    TaskType.INGESTION: INGESTION,
    TaskType.TRANSFORMATION: TRANSFORMATION,
    TaskType.VALIDATION: VALIDATION,
    TaskType.QUALITY_REPORT: QUALITY_REPORT,
    TaskType.REPLAY: REPLAY,
    TaskType.SQL: SQL,
    TaskType.PYTHON: PYTHON,
    TaskType.COMMAND: COMMAND,
    TaskType.NOTIFICATION: NOTIFICATION,
    TaskType.SENSOR: SENSOR,
    TaskType.EMPTY: EMPTY,
}
