"""One topology running in this process, from start to stop.

Started in this order, stopped in reverse::

    log (broker client or embedded log)
      sinks connect ── nothing is read before every target answers
        Faust app ── joins the group; each assignment opens the sinks' positions, then reading starts
      (drain: no new chunks, sinks flush, the group commits)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping

from faust.app import App

from streamcore.contracts import Log
from streamcore.errors import Permanent
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.app import AppOptions, build_app
from streamcore.runtime.arrow_pool import take_from_jemalloc
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at a running app."""
STOP_TIMEOUT = 20.0
"""Seconds that Faust gets to stop once nothing is at stake any more."""


class Job:
    """A running topology: the Faust app and the pipeline that it feeds."""

    def __init__(self, app: App, pipeline: Pipeline) -> None:
        self.app, self.pipeline = app, pipeline

    def check(self) -> None:
        """Raise what made the job fail, if anything did."""
        if self.pipeline.failed.done():
            self.pipeline.failed.result()
        if self.app.crashed:
            reason = getattr(self.app, "_crash_reason", None) or getattr(self.app, "crash_reason", None)
            if isinstance(reason, Exception):
                raise reason
            raise Permanent("the Faust app crashed", got=repr(reason), fix="see the log above")

    async def drain(self, timeout: float) -> None:
        """Take no more chunks, make all work durable, commit. Permanent when *timeout* seconds pass."""
        self.pipeline.closing = True
        self.pipeline.ledger.stir()
        try:
            await asyncio.wait_for(self._drain(), timeout)
        except asyncio.TimeoutError:
            raise Permanent(
                f"draining took longer than {timeout:g} s; what was not confirmed will be done again",
                got=self.pipeline.causes(list(self.pipeline.ledger.positions())),
            ) from None

    async def _drain(self) -> None:
        finish = asyncio.ensure_future(self.pipeline.finish())
        try:
            done, _ = await asyncio.wait([finish, self.pipeline.failed], return_when=asyncio.FIRST_COMPLETED)
        finally:  # also when the time is up: no sink is to be at work while it is closed
            finish.cancel()
            await asyncio.gather(finish, return_exceptions=True)
        if finish in done:
            await finish
        self.check()
        await self.app.consumer.commit()


@contextlib.asynccontextmanager
async def running(
    graph: Graph,
    streams: Mapping[str, str],
    log: Log,
    metrics: Metrics,
    options: PipelineOptions,
    app_options: AppOptions,
    dead_letter_partitions: int,
) -> AsyncIterator[Job]:
    """Run *graph* while the context is open, on the topics that *streams* maps to its streams.

    BadConfig or Permanent when a sink or the broker is not usable; leaving the context stops
    everything, without draining.
    """
    take_from_jemalloc()
    pipeline = Pipeline(graph, streams, log, metrics, options)
    app: App | None = None
    try:
        await pipeline.start(dead_letter_partitions)
        app = build_app(pipeline, [*streams, options.redrive_topic, *options.state_logs], app_options)
        app.finalize()
        await _started(app, pipeline)
        yield Job(app, pipeline)
    except BaseException as error:
        pipeline.fail(error)  # what stops now must not flush any more
        raise
    finally:
        pipeline.closing = True
        if app is not None:
            await _stopped(app)
        await pipeline.stop()
        if pipeline.failed.done():
            pipeline.failed.exception()  # retrieved


async def _started(app: App, pipeline: Pipeline) -> None:
    starting = asyncio.ensure_future(app.start())
    await asyncio.wait([starting, pipeline.failed], return_when=asyncio.FIRST_COMPLETED)
    if pipeline.failed.done() and not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        pipeline.failed.result()
    await starting


async def _stopped(app: App) -> None:
    stopping = asyncio.ensure_future(app.stop())
    # Unlike wait_for this does not wait for a cancelled task to end: a consumer that is told to stop while
    # its group rebalances may look for its coordinator for ever.
    await asyncio.wait([stopping], timeout=STOP_TIMEOUT)
    if not stopping.done():
        stopping.cancel()
        log.warning("Faust did not stop within %g s; its tasks are left behind", STOP_TIMEOUT)
    elif (error := stopping.exception()) is not None:  # the first failure is what is reported
        log.warning("stopping the Faust app: %s: %s", type(error).__name__, error)
