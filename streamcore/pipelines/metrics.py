"""``PipelineMetrics``: how pipelines do, from what the store remembers, for programs and for Prometheus.

Runs, times, rows and errors of tasks are in the store already, whoever executed them; nothing is counted a
second time. What only the user's own code knows is recorded here, and counts from the start of the process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from pydantic import Field

from streamcore.cache import open_cache
from streamcore.errors import Permanent, StreamcoreError
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.measurements import Measurement
from streamcore.metadata.records import PipelineRecord, RunTotals
from streamcore.observability.http import Endpoint, Exposition, answering, anyone
from streamcore.pipelines.figures import PipelineFigures
from streamcore.pipelines.known import Known
from streamcore.pipelines.models import Config, PipelineConfig
from streamcore.pipelines.schedules import schedule_of
from streamcore.settings import Settings, load

_SCRAPE_SECONDS = 10.0
_NAMES = "streamcore_pipeline"
_OTHER_PORT = "set another prometheus_port; 0 takes a free one"


_GAUGES = {
    "runs": "Runs in the store.",
    "run_seconds": "Seconds that the runs in the store took together.",
    "rows": "Rows of all tasks of the runs in the store.",
    "bytes": "Bytes of all tasks of the runs in the store.",
    "last_end_timestamp_seconds": "When the newest run in this state ended.",
}
"""By pipeline and status. Gauges, not counters: who clears the history makes them smaller."""
_QUALITY = "streamcore_quality"
_SHARE = "Completeness, validity and so on of a dataset by the newest look at it, from 0 (bad) to 1 (good)."
_LOOK = "When the newest look at a dataset was."
_LATE = "Seconds since the newest firing that no successful run has dealt with; 0 when all is done."
LABELS = {
    **{f"{_NAMES}_{name}": {"pipeline", "status"} for name in _GAUGES},
    f"{_NAMES}_late_seconds": {"pipeline"},
}
"""The metrics that alerts look at, with their labels."""


class MetricsConfig(Config):
    """Whether and where the metrics of pipelines are served."""

    enable_prometheus: bool = False
    """Serve /metrics while the metrics are started."""
    prometheus_port: int = Field(8000, ge=0, le=65535)
    """The port; 0 takes a free one."""
    prometheus_host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets other machines ask."""


class PipelineMetrics:
    """How pipelines do.

    ::

        async with PipelineMetrics(MetricsConfig(enable_prometheus=True)) as metrics:
            figures = await metrics.get_pipeline_metrics("nightly")

    It need not be started to be asked; started, it serves ``/metrics`` if its configuration says so.
    """

    def __init__(
        self,
        config: MetricsConfig | None = None,
        *,
        store: Store | str | None = None,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*store* is a store, which the caller closes, or a URL; None: ``metadata.url`` of the settings."""
        self.config = config or MetricsConfig()
        self._given, self._settings, self._clock = store, settings, clock
        self._known: Known | None = None
        self._opening = asyncio.Lock()
        self._open, self._serving = AsyncExitStack(), AsyncExitStack()
        self.address: str | None = None
        """Where /metrics is served, e.g. ``http://127.0.0.1:8000``."""
        self._registry, self._process = CollectorRegistry(), CollectorRegistry()
        ProcessCollector(registry=self._process)
        labels = ("pipeline", "task")
        self._rows, self._bytes = (
            Counter(
                f"{_NAMES}_recorded_{what}", f"{what} that code recorded.", labels, registry=self._registry
            )
            for what in ("rows", "bytes")
        )
        self._errors = Counter(
            f"{_NAMES}_recorded_errors",
            "Errors that code recorded.",
            (*labels, "type"),
            registry=self._registry,
        )
        self._recorded: dict[str, Counts[str]] = {}

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Serve ``/metrics``, if configured. BadConfig when the port is taken."""
        if self.address is not None or not self.config.enable_prometheus:
            return
        exposition = self.exposition()

        async def show(_: web.Request) -> web.Response:
            try:
                text = await exposition() + generate_latest(self._process)
            except (StreamcoreError, asyncio.TimeoutError) as error:
                return web.Response(status=503, text=f"the store does not answer: {type(error).__name__}\n")
            return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

        host, port = self.config.prometheus_host, self.config.prometheus_port
        served = answering([Endpoint("/metrics", show, anyone)], host, port, fix=_OTHER_PORT)
        self.address = await self._serving.enter_async_context(served)

    async def stop(self) -> None:
        """Serve nothing any more, and close the store if it was opened here."""
        await self._serving.aclose()
        self.address = self._known = None
        await self._open.aclose()

    async def __aenter__(self) -> PipelineMetrics:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    # ------------------------------------------------------------ what code records

    async def record_data_volume(self, pipeline_id: str, task_id: str, records: int, size: int) -> None:
        """*records* rows of *size* bytes went through a task, beside what its result says."""
        if records < 0 or size < 0:
            raise Permanent("a volume can't be negative", got=(records, size), allowed="0 or more")
        self._rows.labels(pipeline_id, task_id).inc(records)
        self._bytes.labels(pipeline_id, task_id).inc(size)

    async def record_error(self, pipeline_id: str, task_id: str, error_type: str, message: str) -> None:
        """Something went wrong that did not end the task. The *message* is not kept: it may hold data."""
        self._errors.labels(pipeline_id, task_id, error_type).inc()
        self._recorded.setdefault(pipeline_id, Counts())[error_type] += 1

    # ------------------------------------------------------------ what is known

    async def get_pipeline_metrics(self, pipeline_id: str, runs: int = 100) -> PipelineFigures:
        """The figures of its newest *runs*. All nan and 0 where there are none."""
        figures = await (await self._opened()).figures(pipeline_id, runs)
        figures["errors"] = dict(Counts(figures["errors"]) + self._recorded.get(pipeline_id, Counts()))
        return figures

    async def export_prometheus_metrics(self) -> str:
        """All of it in Prometheus' text format, with this process's CPU and memory."""
        return (await self._exported() + generate_latest(self._process)).decode()

    def exposition(self) -> Exposition:
        """The same without CPU and memory, to be asked for by a server's thread while this loop runs.

        It raises StreamcoreError or TimeoutError when the store does not answer.
        """
        loop = asyncio.get_running_loop()

        async def exported() -> bytes:
            asked = asyncio.run_coroutine_threadsafe(self._exported(), loop)
            return await asyncio.wait_for(asyncio.wrap_future(asked), _SCRAPE_SECONDS)

        return exported

    async def _exported(self) -> bytes:
        known = await self._opened()
        quality = _of_quality(await known.store.measurements.datasets())
        families = [*_of_totals(await known.totals()), await self._late(known), *quality]
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot(families))
        return generate_latest(snapshot) + generate_latest(self._registry)

    async def _opened(self) -> Known:
        """The store and a cache of what it said, opened when they are first asked."""
        async with self._opening:
            if self._known is None:
                settings, store = self._settings or load().settings, self._given
                if store is None or isinstance(store, str):
                    store = await open_store(store or settings.metadata_url())
                    self._open.push_async_callback(store.close)
                cache = open_cache(settings=settings)
                self._open.push_async_callback(cache.close)
                self._known = Known(store, cache)
            return self._known

    async def _late(self, known: Known) -> GaugeMetricFamily:
        """Of each pipeline with a schedule that is not paused, for how long its newest firing is not done."""
        family, store = GaugeMetricFamily(f"{_NAMES}_late_seconds", _LATE, labels=["pipeline"]), known.store
        paused = {one.pipeline_id for one in await store.scheduling.schedules() if one.paused_us is not None}
        now = round(self._clock() * 1e6)
        firings = {
            record.pipeline_id: firing
            for record in await store.pipelines()
            if record.pipeline_id not in paused and (firing := _newest_firing(record, now)) is not None
        }
        for pipeline_id, done in (await known.dealt_with(firings)).items():
            family.add_metric([pipeline_id], 0.0 if done else (now - firings[pipeline_id]) / 1e6)
        return family


class _Snapshot(Collector):
    """Families that were made already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_totals(totals: Sequence[RunTotals]) -> list[GaugeMetricFamily]:
    labels = ["pipeline", "status"]
    families = [GaugeMetricFamily(f"{_NAMES}_{name}", text, labels=labels) for name, text in _GAUGES.items()]
    for one in totals:
        last = None if one.last_ended_us is None else one.last_ended_us / 1e6
        for family, value in zip(families, (one.runs, one.seconds, one.rows, one.bytes, last), strict=True):
            if value is not None:
                family.add_metric([one.pipeline_id, str(one.status)], value)
    return families


def _of_quality(newest: Sequence[Measurement]) -> list[GaugeMetricFamily]:
    """The metrics of each dataset as a whole, by its newest look, and when that was."""
    shares = GaugeMetricFamily(f"{_QUALITY}_ratio", _SHARE, labels=["dataset", "metric"])
    times = GaugeMetricFamily(f"{_QUALITY}_timestamp_seconds", _LOOK, labels=["dataset"])
    for one in newest:
        times.add_metric([one.dataset], one.at_us / 1e6)
        for metric, value in one.shares().items():
            shares.add_metric([one.dataset, metric], value)
    return [shares, times]


def _newest_firing(record: PipelineRecord, now: int) -> int | None:
    """The last one that has begun since this version of the pipeline came; None: none, or no schedule."""
    schedule = schedule_of(PipelineConfig.model_validate_json(record.config))
    if schedule is None:
        return None
    firing = schedule.latest(record.registered_us, now)
    return firing if firing is not None and schedule.start_of(firing) <= now else None
