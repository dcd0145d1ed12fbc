"""``BatchIngestionEngine``: a source into a destination, to its end, by the guide's dictionaries.

There is no second engine: an ingestion is a topology of one stream and one sink that is replayed, embedded.
What is read is cut, checked, made dead letters of and written exactly as by ``streamcore replay``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
from pydantic import ByteSize, Field

from streamcore.contracts import Sink
from streamcore.crashpoints import crash_point
from streamcore.engines.config import EngineConfig
from streamcore.engines.datasets import Dataset, Given, open_dataset, silent
from streamcore.engines.ingestion_runs import Runs
from streamcore.engines.memory import Gated, MemoryGate, within
from streamcore.engines.one_file import OneFile
from streamcore.engines.own_process import in_own_process
from streamcore.engines.own_thread import in_own_thread
from streamcore.engines.processing import BatchProcessingConfig
from streamcore.errors import BadConfig, Permanent
from streamcore.progress import OnProgress, Progress, Status, Summary
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.secrets import mask_url, resolve
from streamcore.settings import Settings, load
from streamcore.sinks import open_sink
from streamcore.stream import Stream
from streamcore.topology import Topology

Destination: TypeAlias = str | Path | Mapping[str, Any] | Sink
"""A path, a URI, the dictionary of a sink, or a sink."""
STREAM = "rows"
_OF_REPLAYS = {"state", "limits", "runtime", "retry", "dead_letters"}
"""Settings that a replay in this process depends on; none is a secret, as it is used here."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to rows on their way. ``declare`` makes the stream of a source's columns, which is called
    ``STREAM``, and what follows it; ``name`` tells these steps from others."""

    name: str
    declare: Callable[[Topology, pl.Schema], Stream]


class BatchIngestionConfig(EngineConfig):
    """How ingestions use the machine; all fields may be left out."""

    memory_limit: ByteSize | None = Field(None, gt=0)
    """Memory of this process that reading keeps below: "2GB", or bytes. What is read and not yet written may
    take a quarter of what is left of it at the start."""
    enable_memory_monitoring: bool = True
    """Look at the process's memory before each chunk, and wait when nine tenths of memory_limit are taken."""
    chunk_size: int | None = Field(None, gt=0)
    """Rows to read at a time, about: by the size of the first rows."""
    max_workers: int | None = Field(None, gt=0)
    """Parts of the source that are read side by side."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Types of columns by name, where the first rows are not to say them: {"zip": "string"}."""


@dataclass(frozen=True, slots=True)
class IngestionMetrics:
    """What an ingestion did, in this call.

    ``processed_records``: rows that the destination has confirmed. ``failed_records``: rows that became dead
    letters, in ``dead_letter_log``. ``bytes``: what was read took, in memory or on the wire. ``seconds``:
    from the call to the end; ``rate``: processed records a second. ``status``: "finished", or "already
    finished" for a run that was. ``output``: where the rows are, without secrets. ``peak_memory``: most bytes
    that the process was seen to have; ``slowed_seconds``: how long reading waited for memory, of all parts.
    """

    processed_records: int
    failed_records: int
    bytes: int
    seconds: float
    status: Status
    output: str
    dead_letter_log: str | None = None
    peak_memory: int = 0
    slowed_seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.processed_records / self.seconds if self.seconds > 0 else 0.0


class BatchIngestionEngine:
    """Reads a source to its end into a destination, both named by dictionaries, URIs or paths.

    ::

        engine = BatchIngestionEngine()
        metrics = await engine.ingest_data(
            {"type": "database", "connection_string": "postgresql://…", "table": "users"},
            {"type": "file", "file_path": "output/data.parquet", "file_format": "parquet"},
        )
        print(metrics.processed_records, metrics.failed_records)
    """

    def __init__(
        self,
        config: BatchIngestionConfig | None = None,
        settings: Settings | None = None,
        *,
        processing: BatchProcessingConfig | None = None,
    ) -> None:
        """*settings* are those of replays; None: of the file and the environment. What *config* says of
        workers and chunks wins over *processing*."""
        self.config, self.processing = config or BatchIngestionConfig(), processing or BatchProcessingConfig()
        self._settings = settings

    async def ingest_data(
        self,
        source_config: Given,
        destination_config: Destination,
        *,
        steps: Steps | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = silent,
    ) -> IngestionMetrics:
        """Read all of the source and write it; the metrics when it is done.

        The columns are those that the source knows; where it does not (CSV, JSON), its first rows and the
        configuration's ``columns`` say their types. Rows that don't fit are dead letters and failed records.

        A call that was broken off, also by kill -9, is taken up by the next one of the same source and
        destination: what was written is not written again. A call after one that was finished reads
        everything anew: a file gets the new content, a table with ``key`` is updated, one without gets the
        rows once more. With a *run_id* it is the run of that name that is taken up, or was finished already.

        A path with a file's suffix becomes one file, which is there as a whole when the call ends; any other
        a folder of files. Cancelling the call ends the work: what was read is written, then it stops.
        *on_progress* is called from another thread.

        *steps* happen to the rows on their way, in this process.

        BadConfig before a row is read, Permanent when source or destination give up, Transient while another
        call of the same source and destination is at work.
        """
        began = time.monotonic()
        if self.processing.use_processes and steps is None:
            task = self._task(source_config, destination_config, run_id)
            drain = (self._settings or Settings()).runtime.drain_timeout_s
            done = await in_own_process(task, on_progress, drain)
            return IngestionMetrics(**{**done, "seconds": time.monotonic() - began})
        opening = partial(self._job, source_config, destination_config, steps, run_id, began)

        async def work(stop: asyncio.Event) -> IngestionMetrics:
            with ExitStack() as held:
                job = await asyncio.to_thread(opening, held)
                return await job.run(on_progress, stop)

        return await in_own_thread(work, "ingestion")

    def _job(
        self,
        source: Given,
        destination: Destination,
        steps: Steps | None,
        run_id: str | None,
        began: float,
        held: ExitStack,
    ) -> _Job:
        """Everything opened and checked; its runs are nobody else's until *held* ends.

        BadConfig when it can't work; not for event loops.
        """
        config, settings = self.config, self._settings or load().settings
        sink = destination if isinstance(destination, Sink) else open_sink(destination)
        output = str(getattr(sink, "target", sink.name))
        dataset = open_dataset(source, config.columns)
        of_steps = [steps.name] if steps else []
        what = _digest(dataset.source.uri, type(sink).__name__, sink.name, _address(sink), *of_steps)
        name = f"{'transform' if steps else 'ingest'}-{what}"
        runs = held.enter_context(Runs.open(settings.state.dir / name, run_id))
        read = _digest(runs.current, dataset.source.fingerprint())  # a source that has changed is read anew
        target = None if sink is destination else OneFile.of(sink, name, read)
        topology = Topology(name)
        declare = steps.declare if steps else _as_it_is
        stream = declare(topology, dataset.columns)
        stream.to(sink if target is None else target.sink)
        topology.freeze()
        gate = MemoryGate(config.memory_limit if config.enable_memory_monitoring else None)
        workers = config.max_workers or self.processing.workers or os.cpu_count() or 1
        rows = config.chunk_size or self.processing.chunk_size
        how = ReplayOptions(
            within(settings, config.memory_limit, rows, dataset),
            run=runs.current,
            splits=1 if target is not None and target.in_order else runs.parts(workers),
        )
        return _Job(topology, dataset, stream.columns, target, output, how, gate, runs, began)

    def _task(self, source: Given, destination: Destination, run_id: str | None) -> dict[str, object]:
        """What a process of its own is told to do."""
        for given in (source, destination):
            if not isinstance(given, str | Path | Mapping):
                fix = "give a dictionary, a URI or a path, or leave use_processes away"
                raise BadConfig("this can't be told to another process", got=type(given).__name__, fix=fix)
        settings = (
            None
            if self._settings is None
            else self._settings.model_dump(
                mode="json", include=_OF_REPLAYS, exclude={"state": {"http", "http_token"}}
            )
        )
        return {
            "config": self.config.model_dump(mode="json"),
            "processing": self.processing.model_copy(update={"use_processes": False}).model_dump(),
            "settings": settings,
            "source": str(source) if isinstance(source, Path) else source,
            "destination": str(destination) if isinstance(destination, Path) else destination,
            "run_id": run_id,
        }


@dataclass(frozen=True)
class _Job:
    """One ingestion, ready to be run."""

    topology: Topology
    dataset: Dataset
    columns: pl.Schema
    target: OneFile | None
    output: str
    options: ReplayOptions
    gate: MemoryGate
    runs: Runs
    began: float

    async def run(self, on_progress: OnProgress, stop: asyncio.Event) -> IngestionMetrics:
        """From where it stands to the end of the source, or until *stop*."""
        if self.runs.finished:
            return self._metrics(None)
        source = Gated(self.dataset.source, self.gate)
        has_parts = self.target is not None and self.target.parts.is_dir()
        summary = await replay(self.topology, {STREAM: source}, self.options, on_progress, stop)
        if self.target is not None and summary.status == "already finished" and not has_parts:
            self._was_published(self.target)
        elif summary.status != "interrupted":
            if self.target is not None:
                await asyncio.to_thread(self.target.publish, self.columns)
            crash_point("ingestion.published")
            self.runs.finish()
            if self.target is not None:
                self.target.discard()
        return self._metrics(summary)

    def _was_published(self, target: OneFile) -> None:
        """Nothing was left to read and there is nothing to join: of a run that was forgotten the file stays.

        Permanent when there is none.
        """
        target.discard()  # the replay has made the folder anew
        if not target.path.exists():
            fix = "give a run_id that was not used yet"
            raise Permanent("the rows of this run were read, and are gone", where=self.output, fix=fix)
        self.runs.finish()

    def _metrics(self, summary: Summary | None) -> IngestionMetrics:
        """None: nothing was left to do."""
        progress = Progress() if summary is None else summary.progress
        return IngestionMetrics(
            processed_records=sum(progress.rows_out.values()),
            failed_records=progress.dead_letters,
            bytes=progress.bytes_in,
            seconds=time.monotonic() - self.began,
            status="already finished" if summary is None else summary.status,
            output=self.output,
            dead_letter_log=None if summary is None else summary.dead_letter_log,
            peak_memory=self.gate.peak,
            slowed_seconds=self.gate.waited,
        )


def _as_it_is(topology: Topology, columns: pl.Schema) -> Stream:
    return topology.stream(STREAM, columns)


def _address(sink: Sink) -> str:
    """Which server or place *sink* writes to, without secrets: another one is another ingestion."""
    return mask_url(resolve(str(getattr(sink, "url", None) or getattr(sink, "path", ""))))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
