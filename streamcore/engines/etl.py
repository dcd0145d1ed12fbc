"""``ETLEngine``: the guide's transformations over a dataset, or over a frame.

A configuration becomes a topology; there is no second engine behind it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from streamcore.batch import OFFSET, Rejects, arrow_bytes, user_columns
from streamcore.contracts import Sink
from streamcore.engines.datasets import Given, format_of, open_dataset, read_frame, replayed, silent
from streamcore.engines.folding import Folding
from streamcore.engines.frames import over
from streamcore.engines.operations import Transformation, transformation
from streamcore.errors import BadRows
from streamcore.progress import OnProgress, Summary
from streamcore.settings import Settings, load
from streamcore.times import PROCESSING_TIME
from streamcore.topology import Topology

Config: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""``{"operations": [...]}``, or the list of operations."""
_STREAM = "rows"


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
        summary = await engine.run("people.csv", sc.sinks.Parquet("out/adults"), config)
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
        result = _Rows()
        topology = _topology("transform", plain.schema, transformation(config), Folding("result", result))
        columns = topology.freeze().nodes["result"].columns
        rejects = over(topology, _STREAM, plain)
        return Transformed(pl.concat([pl.DataFrame(schema=columns), *result.frames]), rejects)

    async def run(
        self,
        source: Given,
        destination: Sink,
        config: Config,
        *,
        name: str = "etl",
        columns: Mapping[str, str] | None = None,
        on_progress: OnProgress = silent,
        stop: asyncio.Event | None = None,
        again: bool = False,
    ) -> Summary:
        """Replay *source* through the operations into *destination*, to its end.

        *source* is a path, a URI or a source's dictionary; *columns* are types by name, where they are not to
        be told by its first rows. Rows that are refused are dead letters. A run that was broken off goes on
        where its sink stands, and one that is done writes nothing, unless *again*: a new run of the same
        *name*, source and operations is the same run. BadConfig before any row is read.
        """
        dataset = await asyncio.to_thread(open_dataset, source, columns)
        wanted = transformation(config)
        named = f"{name}-{_digest(config)}"
        topology = await asyncio.to_thread(_topology, named, dataset.columns, wanted, destination)
        settings = self._settings or load().settings
        return await replayed(
            topology, _STREAM, dataset, settings=settings, on_progress=on_progress, stop=stop, again=again
        )


class _Rows:
    """Keeps the rows."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        self.frames.append(user_columns(frame))


def _topology(name: str, columns: pl.Schema, wanted: Transformation, sink: Sink) -> Topology:
    """Rows with *columns* through the operations into *sink*."""
    topology = Topology(name)
    timed = any(operation.timed for _, operation in wanted.operations)
    clock = PROCESSING_TIME if timed and wanted.event_time is None else None
    stream = topology.stream(
        _STREAM,
        columns,
        event_time=wanted.event_time or clock,
        max_lateness=wanted.max_lateness if wanted.event_time else "0s",
        max_future=None,
        format=format_of(columns),
    )
    wanted.apply(stream, read_frame).to(sink)
    return topology


def _digest(config: Config) -> str:
    """The same for the same configuration in any process: another one is another topology."""

    def shown(value: object) -> str:
        if isinstance(value, pl.DataFrame):
            return hashlib.sha256(arrow_bytes(value)).hexdigest()
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"

    given = config if isinstance(config, Mapping) else list(config)
    return hashlib.sha256(json.dumps(given, default=shown, sort_keys=True).encode()).hexdigest()[:8]
