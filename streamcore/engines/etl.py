"""``ETLEngine``: the guide's transformations over a dataset, or over a frame.

A configuration becomes a topology; there is no second engine behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import polars as pl

from streamcore.batch import OFFSET, Rejects, arrow_bytes, user_columns
from streamcore.engines.datasets import Given, format_of, read_frame, silent
from streamcore.engines.folding import Folding
from streamcore.engines.frames import over
from streamcore.engines.ingestion import (
    STREAM,
    BatchIngestionConfig,
    BatchIngestionEngine,
    Destination,
    IngestionMetrics,
    Steps,
)
from streamcore.engines.operations import Transformation, transformation
from streamcore.errors import BadRows
from streamcore.progress import OnProgress
from streamcore.settings import Settings
from streamcore.stream import Stream
from streamcore.times import PROCESSING_TIME
from streamcore.topology import Topology

Config: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""``{"operations": [...]}``, or the list of operations."""


@dataclass(frozen=True, slots=True)
class Transformed:
    """``frame``: the rows that came out. ``rejects``: those refused, by row number (``_offset``)."""

    frame: pl.DataFrame
    rejects: Rejects


class ETLEngine:
    """Applies ``transformation_config`` dictionaries: filter, add_column, rename, cast_type and the others of
    :data:`streamcore.engines.operations.OPERATIONS`.

    ::

        engine = ETLEngine()
        adults = engine.transform(people, {"operations": [{"type": "filter", "condition": "age >= 18"}]})
        metrics = await engine.run("people.csv", "out/adults.parquet", config)
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """*settings* are those of replays; None: of the file and the environment."""
        self._settings = settings

    def transform(self, frame: pl.DataFrame, config: Config) -> pl.DataFrame:
        """What *config* makes of *frame*, in memory.

        BadConfig names the operation by its number, the column, and what exists. BadRows when some rows are
        refused, e.g. by cast_type; :meth:`apply` gives the others.
        """
        made = self.apply(frame, config)
        if len(made.rejects):
            first = made.rejects.frame.row(0, named=True)
            raise BadRows(
                f"{len(made.rejects)} of {frame.height} rows are refused, the first: {first['message']}",
                rows=made.rejects.frame[OFFSET].to_list(),
                code=first["code"],
                where=f"{first['stage']}, row {first[OFFSET]}",
            )
        return made.frame

    def apply(self, frame: pl.DataFrame, config: Config) -> Transformed:
        """What *config* makes of *frame*, and the rows that it refuses. BadConfig as in :meth:`transform`."""
        plain = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        result, topology = _Rows(), Topology("transform")
        made = _declared(transformation(config), topology, plain.schema)
        made.to(Folding("result", result))
        rejects = over(topology, STREAM, plain)
        return Transformed(pl.concat([pl.DataFrame(schema=made.columns), *result.frames]), rejects)

    async def run(
        self,
        source: Given,
        destination: Destination,
        config: Config,
        *,
        columns: Mapping[str, str] | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = silent,
    ) -> IngestionMetrics:
        """Read all of *source*, and write what the operations make of it: an ingestion with steps on the way.

        *source* and *destination* are paths, URIs or dictionaries; *columns* are types by name, where the
        first rows are not to tell them. Rows that are refused are dead letters and failed records. What
        becomes of a run that was broken off, of a second one, of a *run_id* and of a path with a file's
        suffix is said at :meth:`~streamcore.engines.ingestion.BatchIngestionEngine.ingest_data`; other
        operations are another run. BadConfig before any row is read.
        """
        wanted = transformation(config)
        steps = Steps(_digest(config), partial(_declared, wanted))
        how = BatchIngestionConfig(columns=dict(columns or {}))
        engine = BatchIngestionEngine(how, self._settings)
        return await engine.ingest_data(
            source, destination, steps=steps, run_id=run_id, on_progress=on_progress
        )


class _Rows:
    """Keeps the rows."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        self.frames.append(user_columns(frame))


def _declared(wanted: Transformation, topology: Topology, columns: pl.Schema) -> Stream:
    """Rows with *columns* through the operations."""
    timed = any(operation.timed for _, operation in wanted.operations)
    clock = PROCESSING_TIME if timed and wanted.event_time is None else None
    stream = topology.stream(
        STREAM,
        columns,
        event_time=wanted.event_time or clock,
        max_lateness=wanted.max_lateness if wanted.event_time else "0s",
        max_future=None,
        format=format_of(columns),
    )
    return wanted.apply(stream, read_frame)


def _digest(config: Config) -> str:
    """The same for the same configuration in any process: another one is another topology."""

    def shown(value: object) -> str:
        if isinstance(value, pl.DataFrame):
            return hashlib.sha256(arrow_bytes(value)).hexdigest()
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"

    given = config if isinstance(config, Mapping) else list(config)
    return hashlib.sha256(json.dumps(given, default=shown, sort_keys=True).encode()).hexdigest()[:8]
