"""Datasets that engines read: what a path, a URI or a dictionary names, with columns, replayed to its end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from batch_adapters.catalogue import open_source
from batch_adapters.sampling import sample
from streamcore.batch import PartitionId
from streamcore.contracts import BoundedSource, Format
from streamcore.errors import BadConfig, Permanent
from streamcore.expressions import check_columns
from streamcore.formats import decoder_for, format_named
from streamcore.graph import Source
from streamcore.progress import OnProgress, Progress, Summary
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.schema import StreamSchema
from streamcore.schema.types import type_named
from streamcore.settings import Settings
from streamcore.settings.model import State
from streamcore.topology import Topology

Given: TypeAlias = str | Path | Mapping[str, Any] | BoundedSource
"""A path, a glob, a URI, the dictionary of a source, or an open one."""
SAMPLE_ROWS = 10_000
"""So many rows say the types of columns that the source itself does not know."""
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Dataset:
    """A source, and the columns that its rows are read as; rows that do not fit are refused."""

    source: BoundedSource
    columns: pl.Schema


def open_dataset(given: Given, columns: Mapping[str, str] | None = None) -> Dataset:
    """The dataset that *given* names; *columns* are types by name, in place of those that are found.

    Where the source knows no types (CSV, JSON) its first rows say them. BadConfig for what can't be read, and
    for *columns* that are not there. Reads: not for event loops.
    """
    source = _opened(given)
    known = source.columns()
    texts = known is None or all(dtype == pl.String for dtype in known.values())
    found = sample(source, SAMPLE_ROWS).columns if known is None or texts else known
    if not found:
        raise BadConfig(
            "the source has no rows, and knows no columns", where=source.uri, fix="give its columns"
        )
    wanted = {name: type_named(dtype) for name, dtype in (columns or {}).items()}
    check_columns([*wanted], found, "in columns")
    return Dataset(source, pl.Schema({**found, **wanted}))


def format_of(columns: pl.Schema) -> Format:
    """What a stream of rows with *columns* is declared with: JSON, unless that can't hold a type of a
    frame."""
    try:
        format_named("json").decoder(StreamSchema.from_columns(columns))
    except BadConfig:
        return format_named("arrow")
    return format_named("json")


def _opened(given: Given) -> BoundedSource:
    if isinstance(given, str | Path):
        return open_source(str(given))
    return open_source(given) if isinstance(given, Mapping) else given


def read_frame(given: Given) -> pl.DataFrame:
    """All rows of a small dataset, e.g. one that is looked up in. BadConfig when some row can't be read."""
    dataset = open_dataset(given)
    nowhere = PartitionId("reference", 0, "reference")
    stream = Topology("reference").stream("reference", dataset.columns).node.part
    assert isinstance(stream, Source)
    decoder = decoder_for(stream.format, StreamSchema.from_columns(dataset.columns))
    frames = [pl.DataFrame(schema=dataset.columns)]
    for split in dataset.source.splits(1):
        with closing(split.open(nowhere, 0, split.bookmark)) as reader:
            while (chunk := reader.read(_CHUNK)) is not None:
                decoded = decoder.decode(chunk)
                if len(chunk.rejects) or len(decoded.rejects):
                    raise BadConfig("a row of the reference can't be read", where=dataset.source.uri)
                frames.append(decoded.frame.select(dataset.columns.names()))
    return pl.concat(frames)


def silent(progress: Progress) -> None:
    """For those who do not want to hear of progress."""


async def replayed(
    topology: Topology,
    stream: str,
    dataset: Dataset,
    *,
    on_progress: OnProgress = silent,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Replay *dataset* as *stream* of *topology*, which writes nothing, embedded, to its end.

    Its log lies in a folder that goes with the run. Raises as :func:`~streamcore.runtime.replay.replay` does,
    and Permanent when it was stopped.
    """
    with tempfile.TemporaryDirectory(prefix="streamcore-") as folder:
        options = ReplayOptions(Settings(state=State(dir=Path(folder))))
        summary = await replay(topology, {stream: dataset.source}, options, on_progress, stop)
    if summary.status == "interrupted":
        raise Permanent("stopped before the end of the dataset", where=dataset.source.uri)
    return summary
