"""A replay on topics of its own: the topology runs here, in a group of its own, until all is done.

The topics keep their rows whatever their age, and are deleted when every sink has confirmed the end.
The sinks and the dead letters are the topology's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from streamcore.contracts import BoundedSource
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.progress import OnProgress, Progress, Status, Summary
from streamcore.runtime.feeding.feed import Opening, opened
from streamcore.runtime.feeding.marks import Mark, Marks
from streamcore.runtime.feeding.run import Runs
from streamcore.runtime.job import LOOK, Job, running
from streamcore.runtime.kafka_app import kafka_app_options
from streamcore.runtime.options import REDRIVE_SUFFIX, pipeline_options_of
from streamcore.runtime.replay import ReplayOptions
from streamcore.runtime.state_logs import log_topic, made_logs
from streamcore.systems.kafka_admin import KafkaAdmin
from streamcore.topology import Topology

PARTITIONS = 4
"""Partitions of a replay's topic when the stream has no topic to take the number from."""
_KEPT = {"retention.ms": "-1", "retention.bytes": "-1"}


async def feed_isolated(
    topology: Topology,
    sources: Mapping[str, BoundedSource],
    options: ReplayOptions,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Replay *sources* over topics of their own through *topology* in this process, to the end or *stop*.

    Errors as of :func:`streamcore.runtime.feeding.feed`, and Permanent when a sink gives up.
    """
    stop = stop or asyncio.Event()
    async with opened(topology, sources, options, "isolated") as opening:
        control = Marks(opening.log, opening.graph.name)
        marks = await _marks(opening, control, options.again)
        isolated = Isolated.of(opening, marks)
        runs = opening.runs(marks, control)
        try:
            if resting := all(mark.state == "done" for mark in marks.values()):
                finished, done = True, runs.progress()
            else:
                finished, done = await _work(opening, isolated, runs, on_progress, stop)
        finally:
            runs.close()
        if finished:
            async with KafkaAdmin(opening.connection) as admin:
                await admin.delete([*isolated.own_topics(opening.graph), *(m.topic for m in marks.values())])
    on_progress(done)
    status: Status = "interrupted" if not finished else "already finished" if resting else "finished"
    return replace(opening.summary(status, done, opening.graph.targets), group=isolated.group)


@dataclass(frozen=True, slots=True)
class Isolated:
    """Names of a replay's own: group, redrive topic (an empty one), and the topics with their streams."""

    group: str
    redrive_topic: str
    streams: Mapping[str, str]
    replay: str

    @classmethod
    def of(cls, opening: Opening, marks: Mapping[str, Mark]) -> Isolated:
        ids = " ".join(sorted(mark.replay for mark in marks.values()))
        suffix = f".replay-{hashlib.sha256(ids.encode()).hexdigest()[:8]}"
        name = opening.graph.name
        streams = {mark.topic: stream for stream, mark in marks.items() if mark.state != "done"}
        replay = " ".join(sorted(mark.topic for mark in marks.values()))
        group, redrive = opening.options.settings.group(name) + suffix, name + suffix + REDRIVE_SUFFIX
        return cls(group, redrive, streams, replay)

    def own_topics(self, graph: Graph) -> list[str]:
        """The topics that are needed beside the streams' while the replay runs."""
        return [self.redrive_topic, *(log_topic(graph, window, self.replay) for window in graph.stateful)]


async def _marks(opening: Opening, control: Marks, again: bool) -> dict[str, Mark]:
    """The mark of each stream's run, its topic made."""
    known = await control.latest()
    marks: dict[str, Mark] = {}
    for stream, planned in opening.plans.items():
        mark = known.get(planned.name)
        if mark is None or again:
            run = mark.run + 1 if mark else 0
            topic = f"{planned.part.topic}.replay-{planned.name[:8]}-{run}"
            count = len(await opening.log.bounds(planned.part.topic)) or PARTITIONS
            await opening.log.create(topic, count, _KEPT)
            mark = Mark(
                planned.name, run, topic, dict.fromkeys(range(count), 0), bookmarks=planned.bookmarks()
            )
            await control.write(mark)
        marks[stream] = mark
    return marks


async def _work(
    opening: Opening, isolated: Isolated, runs: Runs, on_progress: OnProgress, stop: asyncio.Event
) -> tuple[bool, Progress]:
    """Feed and work off at the same time; whether all is done, and the last progress."""
    settings, name, log = opening.options.settings, opening.graph.name, opening.log
    await log.create(isolated.redrive_topic, 1, _KEPT)
    logs = await made_logs(
        opening.graph,
        log,
        {mark.topic: stream for stream, mark in runs.marks.items()},
        {mark.topic: len(mark.starts) for mark in runs.marks.values()},
        replay=isolated.replay,
    )
    pipeline = replace(
        pipeline_options_of(settings, name), redrive_topic=isolated.redrive_topic, state_logs=logs
    )
    # The group has one member, always of the same name: started again, it need not wait for its old session.
    app = kafka_app_options(
        settings, opening.connection, name, isolated.group, start="earliest", instance_id="replay"
    )
    began = time.monotonic()
    most = max(len(mark.starts) for mark in runs.marks.values())
    async with running(opening.graph, isolated.streams, log, Metrics(), pipeline, app, most) as job:

        def look() -> None:
            job.check()
            on_progress(_progress(job, runs, time.monotonic() - began))

        finished = await runs.feed(stop, look)
        while finished and not _worked_off(job, runs):
            look()
            if stop.is_set():
                finished = False
            await asyncio.sleep(LOOK)
        for source in job.pipeline.owned() if finished else ():
            job.pipeline.tell_watermark(source, END)
        while finished and not job.pipeline.states_ended:
            look()
            if stop.is_set():
                finished = False
            await asyncio.sleep(LOOK)
        await job.drain(settings.runtime.drain_timeout_s)
        if finished:
            await runs.mark_done()
        return finished, _progress(job, runs, time.monotonic() - began)


def _worked_off(job: Job, runs: Runs) -> bool:
    processed = {(source.topic, source.partition): at for source, at in job.pipeline.processed.items()}
    return all(
        processed.get((mark.topic, partition), -1) >= end
        for mark in runs.marks.values()
        if mark.state == "ended"
        for partition, end in mark.ends.items()
    )


def _progress(job: Job, runs: Runs, elapsed: float) -> Progress:
    counters = job.pipeline.counters
    return Progress(
        rows_in=counters.rows_in,
        bytes_in=counters.bytes_in,
        rows_out=job.pipeline.rows_out,
        rejected=dict(counters.rejected),
        rules=dict(counters.rules),
        splits=runs.progress().splits,
        elapsed=elapsed,
    )
