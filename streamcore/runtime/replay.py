"""Replaying bounded sources through a topology, embedded in this process.

Every split of a source is a partition of the stream's topic. The topic's id is a hash of what is
read, so the same replay started again goes on where its sinks stand, and a finished one says so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import polars as pl

from streamcore.asking import nothing
from streamcore.batch import Chunk, PartitionId, nothing_at
from streamcore.contracts import BoundedSource, Preparing
from streamcore.deadletter.writer import TOPIC_CONFIG
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.passage import Outcome
from streamcore.progress import OnProgress, Progress, Rejected, SplitProgress, Status, Summary
from streamcore.runtime.app import AppOptions
from streamcore.runtime.job import LOOK, Job, running
from streamcore.runtime.limiting import LimitedSplit
from streamcore.runtime.options import pipeline_options_of
from streamcore.runtime.pacing import Pacer
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.planning import StreamPlan, check_streams, plan
from streamcore.runtime.state_logs import made_logs
from streamcore.runtime.watchdog import Watchdog
from streamcore.settings import Settings
from streamcore.stateful_task import StatefulTasks
from streamcore.task import PartitionTask
from streamcore.topology import Topology
from streamcore.transport.bookmarks import Bookmarks
from streamcore.transport.embedded_broker import Broker, Topic
from streamcore.transport.embedded_feed import SplitFeed
from streamcore.transport.embedded_log import EmbeddedLog

_PREVIEW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """``limit``: read at most so many rows of each file. ``again``: start anew what was done before.

    ``speed``: so many times as fast as the event times; None is as fast as it goes. ``run``: tells replays of
    the same sources apart; one of the same name goes on where it was.
    """

    settings: Settings = field(default_factory=Settings)
    limit: int | None = None
    again: bool = False
    speed: float | None = None
    run: str = ""
    splits: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a dry run found: the first rows that each sink would get, and what would be refused.

    ``statements``: by which each sink would make what is missing at its target.
    """

    rows: Mapping[str, pl.DataFrame]
    rejected: Mapping[Rejected, int]
    rows_in: int
    statements: Mapping[str, Sequence[str]]


async def replay(
    topology: Topology,
    sources: Mapping[str, BoundedSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Replay *sources* (by stream name) through *topology* until they end, or until *stop* is set.

    Resumes where an interrupted replay of the same sources stands. BadConfig for unknown streams and
    unreadable sources, before a row is read; Permanent when a sink gives up.
    """
    graph = topology.freeze()
    pacer = Pacer(options.speed) if options.speed else None
    plans = plan(graph, sources, splits=options.splits, limit=options.limit, pacer=pacer, into=options.run)
    folder = (options.settings.state.dir / graph.name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    feeds = _feeds(plans, options, folder)
    broker = Broker.open(f"embedded://{graph.name}{folder}")
    try:
        for partitions in feeds.values():
            broker.attach(partitions[0].source.topic, partitions)
        return await _run(graph, broker, feeds, options, pacer, on_progress, stop or asyncio.Event())
    finally:
        broker.close()


def preview(
    topology: Topology, sources: Mapping[str, BoundedSource], options: ReplayOptions, rows: int = 1000
) -> Preview:
    """Bring the first *rows* rows of each source through the topology and write nothing.

    Nothing outside is looked up either: such lookups find no row.
    """
    graph = topology.freeze()
    check_streams(graph, sources)
    found: dict[str, list[pl.DataFrame]] = {sink: [] for sink in graph.sinks}
    rejected: dict[Rejected, int] = {}
    rows_in = 0
    for stream, source in sources.items():
        partition = PartitionId(stream, 0, "preview")
        for outcome in _outcomes(graph, stream, partition, source, min(rows, options.limit or rows)):
            rows_in += outcome.records if outcome.chunk.source == partition else 0
            for sink in found.keys() & outcome.writes.keys():
                found[sink].append(outcome.writes[sink].rows)
            for stage, code in outcome.rejects.frame.select("stage", "code").iter_rows():
                rejected[Rejected(stage, code)] = rejected.get(Rejected(stage, code), 0) + 1
    frames = {sink: pl.concat(parts) for sink, parts in found.items() if parts}
    statements = {
        sink: node.part.plan(node.columns)
        for sink, node in graph.sinks.items()
        if isinstance(node.part, Preparing)
    }
    return Preview(frames, rejected, rows_in, statements)


def _outcomes(
    graph: Graph, stream: str, partition: PartitionId, source: BoundedSource, rows: int
) -> Iterator[Outcome]:
    """What becomes of the first *rows* records of *source*, as if the stream ended there."""
    task = PartitionTask(graph, stream, partition, clock=time.time)
    windows = StatefulTasks(graph, [(stream, 0)], nothing)
    for chunk in _first(source, partition, rows):
        yield from windows.through(task.on_chunk(chunk, nothing))
    yield from windows.through(task.on_watermark(nothing_at(partition, rows), END))


def _first(source: BoundedSource, partition: PartitionId, rows: int) -> Iterator[Chunk]:
    """The first *rows* records of *source*, file after file."""
    for split in source.splits(1):
        reader = LimitedSplit(split, rows).open(partition, 0)
        try:
            while rows > 0 and (chunk := reader.read(_PREVIEW_BYTES)) is not None:
                rows -= len(chunk)
                yield chunk
        finally:
            reader.close()


def _feeds(
    plans: Mapping[str, StreamPlan], options: ReplayOptions, folder: Path
) -> dict[str, list[SplitFeed]]:
    """The partitions that each stream reads, on a topic of this replay's own."""
    feeds: dict[str, list[SplitFeed]] = {}
    for stream, planned in plans.items():
        name = planned.name
        run = _run_number(folder, name, options.again)
        bookmarks = Bookmarks(folder / f"bookmarks-{name}-{run}.jsonl")
        topic, topic_id = f"{planned.part.topic}.replay-{name[:8]}-{run}", f"replay/{name}/{run}"
        feeds[stream] = [
            SplitFeed(split, PartitionId(topic, number, topic_id), bookmarks)
            for number, split in enumerate(planned.splits)
        ]
    return feeds


def _run_number(folder: Path, name: str, again: bool) -> int:
    """How often this replay was started anew, counted in a small file; --again counts one more."""
    file = folder / "replays.json"
    runs: dict[str, int] = orjson.loads(file.read_bytes()) if file.exists() else {}
    if again:
        runs[name] = runs.get(name, 0) + 1
        aside = file.with_suffix(".tmp")
        aside.write_bytes(orjson.dumps(runs))
        aside.replace(file)
    return runs.get(name, 0)


async def _run(
    graph: Graph,
    broker: Broker,
    feeds: Mapping[str, Sequence[SplitFeed]],
    options: ReplayOptions,
    pacer: Pacer | None,
    on_progress: OnProgress,
    stop: asyncio.Event,
) -> Summary:
    settings = options.settings
    group = settings.group(graph.name)
    app_options = AppOptions(
        broker=broker.url,
        group=group,
        datadir=settings.state.dir / graph.name / "faust",
        commit_interval=settings.runtime.commit_interval_s,
        fetch_max_bytes=settings.limits.fetch_max_bytes,
    )
    log, metrics = EmbeddedLog(broker), Metrics()
    streams = {parts[0].source.topic: stream for stream, parts in feeds.items()}
    read = {parts[0].source.topic: len(parts) for parts in feeds.values()}
    ids = " ".join(sorted(parts[0].source.topic_id for parts in feeds.values()))
    pipeline_options = replace(
        pipeline_options_of(settings, graph.name),
        state_logs=await made_logs(graph, log, streams, read, replay=ids),
    )
    broker.create(pipeline_options.redrive_topic, 1, TOPIC_CONFIG)
    began = time.monotonic()
    async with running(graph, streams, log, metrics, pipeline_options, app_options, 1) as job:

        def progress() -> Progress:
            return _progress(job, feeds, time.monotonic() - began)

        ends = {feed.source: feed.end for parts in feeds.values() for feed in parts}
        watchdog = Watchdog(
            job.pipeline,
            metrics,
            lambda source: ends[source]() if source in ends else None,
            timeout=settings.runtime.stall_timeout_s,
            clock=time.monotonic,
            wall=time.time,
        )

        told: set[PartitionId] = set()

        def ended() -> bool:
            if not (_fed(job, feeds) and _redriven(job, broker.topic(pipeline_options.redrive_topic))):
                return False
            for source in ends.keys() - told:
                job.pipeline.tell_watermark(source, END)
                told.add(source)
            return job.pipeline.states_ended

        try:
            while not ended() and not stop.is_set():
                job.check()
                watchdog.look()
                on_progress(progress())
                await _look_again(job.pipeline, ended)
        finally:
            if pacer:
                pacer.halt()  # or stopping would wait for the next row's time
        interrupted = not ended()
        await job.drain(settings.runtime.drain_timeout_s)
        done = progress()
        on_progress(done)
    resumed = any(split.position for split in done.splits)
    worked = done.rows_in or any(done.rows_out.values())
    status: Status = "finished" if worked or not resumed else "already finished"
    return Summary(
        topology=graph.name,
        status="interrupted" if interrupted else status,
        progress=done,
        outputs=graph.targets,
        dead_letter_log=pipeline_options.dead_letter_topic,
        group=group,
    )


async def _look_again(pipeline: Pipeline, ended: Callable[[], bool]) -> None:
    """Return after LOOK seconds, or as soon as it has *ended*."""
    deadline = time.monotonic() + LOOK
    while not ended() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait_for(pipeline.ledger.moved(), left)
        except asyncio.TimeoutError:
            return


def _fed(job: Job, feeds: Mapping[str, Sequence[SplitFeed]]) -> bool:
    processed = job.pipeline.processed
    return all(
        (end := feed.end()) is not None and processed.get(feed.source, -1) >= end
        for parts in feeds.values()
        for feed in parts
    )


def _redriven(job: Job, topic: Topic | None) -> bool:
    processed = job.pipeline.processed
    return topic is None or all(processed.get(log.source, -1) >= log.end for log in topic.logs)


def _progress(job: Job, feeds: Mapping[str, Sequence[SplitFeed]], elapsed: float) -> Progress:
    counters, processed = job.pipeline.counters, job.pipeline.processed
    splits = [
        SplitProgress(stream, feed.split.name, processed.get(feed.source, 0), feed.split.size)
        for stream, parts in feeds.items()
        for feed in parts
    ]
    return Progress(
        rows_in=counters.rows_in,
        bytes_in=counters.bytes_in,
        rows_out=job.pipeline.rows_out,
        rejected=dict(counters.rejected),
        rules=dict(counters.rules),
        late=dict(counters.late),
        splits=tuple(splits),
        elapsed=elapsed,
    )
