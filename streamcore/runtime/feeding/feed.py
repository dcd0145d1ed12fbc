"""Rows into the topics that the topology's workers read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from streamcore.contracts import BoundedSource, Log
from streamcore.graph import Graph
from streamcore.progress import OnProgress, Progress, SplitProgress, Status, Summary
from streamcore.runtime.feeding.marks import Mark, Marks
from streamcore.runtime.feeding.run import Runs
from streamcore.runtime.feeding.waiting import GroupWait
from streamcore.runtime.kafka_app import topic_bounds
from streamcore.runtime.options import pipeline_options_of
from streamcore.runtime.pacing import Pacer
from streamcore.runtime.planning import StreamPlan, plan
from streamcore.runtime.replay import ReplayOptions
from streamcore.systems.kafka import KafkaConnection, probe
from streamcore.systems.kafka_admin import KafkaAdmin
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog


async def feed(
    topology: Topology,
    sources: Mapping[str, BoundedSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
    *,
    wait: bool = False,
) -> Summary:
    """Append *sources* (by stream name) to the streams' topics until they end, or until *stop* is set.

    With *wait* it ends when the group has committed all of it. BadConfig before a row is read; Transient
    when no broker answers at the start; Permanent for missing topics and refused records.
    """
    stop = stop or asyncio.Event()
    async with opened(topology, sources, options, "topic") as opening:
        control = Marks(opening.log, opening.graph.name)
        marks = await _marks(opening, control, options.again)
        resting = all(mark.state == "ended" for mark in marks.values())
        runs = opening.runs(marks, control)
        try:
            finished = await runs.feed(stop, lambda: on_progress(runs.progress()))
            done = runs.progress()
            if wait and finished:
                finished = await _wait(opening, runs, on_progress, stop)
        finally:
            runs.close()
    on_progress(done)
    status: Status = "already finished" if resting else "finished"
    return opening.summary(
        status if finished else "interrupted",
        done,
        {stream: f"topic {mark.topic} of {opening.connection}" for stream, mark in marks.items()},
    )


@dataclass(frozen=True)
class Opening:
    """A checked replay and the broker that it goes to."""

    graph: Graph
    plans: Mapping[str, StreamPlan]
    options: ReplayOptions
    connection: KafkaConnection
    log: Log
    pacer: Pacer | None

    def runs(self, marks: Mapping[str, Mark], control: Marks) -> Runs:
        """The runs of *marks*, not started."""
        settings = self.options.settings
        retries = pipeline_options_of(settings, self.graph.name).retries
        max_bytes = settings.limits.fetch_max_bytes
        return Runs(self.plans, marks, self.log, control, retries, max_bytes, self.pacer)

    def summary(self, status: Status, progress: Progress, outputs: Mapping[str, str]) -> Summary:
        """How the replay ended."""
        settings, name = self.options.settings, self.graph.name
        return Summary(
            topology=name,
            status=status,
            progress=progress,
            outputs=outputs,
            dead_letter_log=settings.dead_letter_topic(name),
            group=settings.group(name),
        )


@contextlib.asynccontextmanager
async def opened(
    topology: Topology, sources: Mapping[str, BoundedSource], options: ReplayOptions, into: str
) -> AsyncIterator[Opening]:
    """Check everything, then connect; *into* as for :func:`~streamcore.runtime.planning.plan`."""
    graph = topology.freeze()
    connection = KafkaConnection.parse(options.settings.broker.url)
    pacer = Pacer(options.speed) if options.speed else None
    plans = plan(graph, sources, splits=options.splits, limit=options.limit, pacer=pacer, into=into)
    await probe(options.settings.broker.url)
    log = KafkaLog(connection)
    try:
        yield Opening(graph, plans, options, connection, log, pacer)
    finally:
        await log.close()


async def _marks(opening: Opening, control: Marks, again: bool) -> dict[str, Mark]:
    """The mark of each stream's run: the last one's, or that of a new run."""
    bounds = {
        stream: await topic_bounds(planned.node, opening.log) for stream, planned in opening.plans.items()
    }
    known = await control.latest()
    marks: dict[str, Mark] = {}
    for stream, planned in opening.plans.items():
        mark = known.get(planned.name)
        if mark is None or again:
            starts = {partition: found.end for partition, found in bounds[stream].items()}
            mark = Mark(
                planned.name,
                mark.run + 1 if mark else 0,
                planned.part.topic,
                starts,
                bookmarks=planned.bookmarks(),
            )
            await control.write(mark)
        marks[stream] = mark
    return marks


async def _wait(opening: Opening, runs: Runs, on_progress: OnProgress, stop: asyncio.Event) -> bool:
    """Until the group has committed the end markers; False when *stop* was set before."""
    marks = runs.marks.values()
    starts, ends = {m.topic: m.starts for m in marks}, {m.topic: m.ends for m in marks}
    streams = {mark.topic: stream for stream, mark in runs.marks.items()}
    group = opening.options.settings.group(opening.graph.name)
    async with KafkaAdmin(opening.connection) as admin:
        waiting = GroupWait(admin, group, starts, ends)

        def look() -> None:
            splits = [
                SplitProgress(
                    streams[topic],
                    f"{topic}/{partition}",
                    ends[topic][partition] - left,
                    ends[topic][partition],
                )
                for (topic, partition), left in waiting.left.items()
            ]
            left = sum(waiting.left.values())
            on_progress(replace(runs.progress(), splits=tuple(splits), rows_left=left))

        return await waiting.done(stop, look)
