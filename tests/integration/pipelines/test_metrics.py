"""``PipelineMetrics`` over the runs of a real orchestrator and over HTTP."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamcore import MetricsConfig, PipelineConfig, PipelineMetrics, PipelineOrchestrator, TaskConfig
from streamcore.engines.quality import QualityEngine
from streamcore.engines.quality_history import QualityHistory
from streamcore.errors import BadConfig, Permanent
from streamcore.metadata import open_store
from streamcore.metadata.contract import NewRun, Store
from streamcore.pipelines.models import TaskType
from streamcore.settings import load
from tests.services.redis import RedisServer

HOUR = 3600.0


def command(task_id: str, *words: str) -> TaskConfig:
    return TaskConfig(task_id=task_id, task_type=TaskType.COMMAND, parameters={"command": list(words)})


async def run(store: Store, config: PipelineConfig, clock: float | None = None) -> None:
    clocks = {} if clock is None else {"clock": lambda: clock}
    async with PipelineOrchestrator(store, take_up=False, **clocks) as orchestrator:  # type: ignore[arg-type]
        await orchestrator.register_pipeline(config)
        await orchestrator.trigger_pipeline(config.pipeline_id, wait=True)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Value by name and labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_runs_tasks_and_errors_are_counted_from_the_store(store: Store) -> None:
    for program in ("true", "true", "true", "false"):
        await run(store, PipelineConfig(pipeline_id="p", tasks=(command("a", program),)))
    metrics = PipelineMetrics(store=store)
    await metrics.record_error("p", "a", "odd", "a secret")
    await metrics.record_data_volume("p", "a", 1000, 50_000)
    figures = await metrics.get_pipeline_metrics("p")
    assert (figures["runs"], figures["succeeded"], figures["failed"]) == (4, 3, 1)
    assert figures["success_rate"] == 0.75
    assert 0 < figures["duration"] <= figures["duration_p95"] < 60
    assert figures["errors"] == {"failed": 1, "odd": 1}
    task = figures["tasks"]["a"]
    assert (task["attempts"], task["failed_attempts"], task["error_rate"]) == (4, 1, 0.25)

    found = samples(text := await metrics.export_prometheus_metrics())
    assert found["streamcore_pipeline_runs", "p", "success"] == 3
    assert found["streamcore_pipeline_runs", "p", "failed"] == 1
    assert found["streamcore_pipeline_run_seconds", "p", "success"] > 0
    assert found["streamcore_pipeline_recorded_rows_total", "p", "a"] == 1000
    assert found["streamcore_pipeline_recorded_bytes_total", "p", "a"] == 50_000
    assert found["streamcore_pipeline_recorded_errors_total", "p", "a", "odd"] == 1
    assert found["process_resident_memory_bytes",] > 0
    assert "secret" not in text


async def test_a_pipeline_that_never_ran_has_no_rate(store: Store) -> None:
    figures = await PipelineMetrics(store=store).get_pipeline_metrics("none")
    assert math.isnan(figures["success_rate"])
    assert (figures["runs"], figures["rows"], figures["tasks"]) == (0, 0, {})


async def test_a_volume_is_not_negative(store: Store) -> None:
    with pytest.raises(Permanent, match="can't be negative"):
        await PipelineMetrics(store=store).record_data_volume("p", "a", -1, 0)


async def test_a_pipeline_is_late_from_its_firing_until_a_run_of_it_succeeds(store: Store) -> None:
    now = 1_700_000_000 // 86_400 * 86_400.0
    metrics = PipelineMetrics(store=store, clock=lambda: now)

    async def late() -> float | None:
        return samples(await metrics.export_prometheus_metrics()).get(
            ("streamcore_pipeline_late_seconds", "p")
        )

    def doing(program: str) -> PipelineConfig:
        return PipelineConfig(pipeline_id="p", schedule="0 6 * * *", tasks=(command("a", program),))

    async with PipelineOrchestrator(store, take_up=False, clock=lambda: now) as orchestrator:
        await orchestrator.register_pipeline(doing("false"))
    now += 5 * HOUR
    assert await late() is None, "no firing is due since it was registered"
    now += 2 * HOUR
    assert await late() == HOUR
    await run(store, doing("false"), now)
    assert await late() == HOUR, "a run that failed does not count"
    await store.scheduling.pause("p", round(now * 1e6))
    assert await late() is None
    await store.scheduling.resume("p")
    async with PipelineOrchestrator(store, take_up=False, clock=lambda: now - 2 * HOUR) as orchestrator:
        await orchestrator.register_pipeline(doing("true"))
    assert await late() == HOUR
    await run(store, doing("true"), now)
    assert await late() == 0

    now += 24 * HOUR
    assert await late() == HOUR
    version = (await store.pipelines())[0].version
    for days, still_late in ((1, HOUR), (0, 0)):
        firing = round((now - HOUR - days * 24 * HOUR) * 1e6)
        await store.create_run(NewRun(f"{days}", "p", version, ["a"], scheduled_us=firing), round(now * 1e6))
        async with PipelineOrchestrator(store, take_up=False, clock=lambda: now) as orchestrator:
            await orchestrator._claim(f"{days}")
            await orchestrator.wait(f"{days}")
        assert await late() == still_late, "a backfill's run is that of its own firing"


async def test_what_was_added_up_is_shared_until_a_run_changes(redis: RedisServer, tmp_path: Path) -> None:
    """Metrics of two processes: one asks for the totals, both tell them, and a change at once."""
    settings = load(environ={"STREAMCORE_CACHE__URL": redis.fresh_database()}).settings
    stores = [await open_store(f"sqlite:///{tmp_path}/metadata.db") for _ in range(2)]
    asked = Counter[int]()
    for number, store in enumerate(stores):
        store.totals = _counted(store.totals, asked, number)  # type: ignore[method-assign]
    both = [PipelineMetrics(store=store, settings=settings) for store in stores]
    for runs in (1, 2):
        await run(stores[0], PipelineConfig(pipeline_id="p", tasks=(command("a", "true"),)))
        for metrics in (*both, *both):
            shown = samples(await metrics.export_prometheus_metrics())
            assert shown["streamcore_pipeline_runs", "p", "success"] == runs
            assert (await metrics.get_pipeline_metrics("p"))["succeeded"] == runs
    assert asked == {0: 2}
    for one in (*both, *stores):
        await (one.stop() if isinstance(one, PipelineMetrics) else one.close())


T = TypeVar("T")


def _counted(
    call: Callable[[], Awaitable[T]], calls: Counter[int], number: int
) -> Callable[[], Awaitable[T]]:
    def counted() -> Awaitable[T]:
        calls[number] += 1
        return call()

    return counted


async def test_the_quality_of_datasets_is_told_by_the_newest_look(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/metadata.db"
    with QualityHistory(url) as history:
        for emails in (["a@b.co", None], ["a@b.co", None, None, None]):
            report = QualityEngine(history).check(pl.DataFrame({"email": emails}), {"dataset": "users"})
    metrics = PipelineMetrics(store=url)
    shown = samples(await metrics.export_prometheus_metrics())
    await metrics.stop()
    assert shown["streamcore_quality_ratio", "users", "completeness"] == 0.25
    assert shown["streamcore_quality_timestamp_seconds", "users"] == pytest.approx(report.as_of.timestamp())


async def test_metrics_are_served_while_started(store: Store) -> None:
    await run(store, PipelineConfig(pipeline_id="p", tasks=(command("a", "true"),)))
    config = MetricsConfig(enable_prometheus=True, prometheus_port=0)
    async with PipelineMetrics(config, store=store) as metrics, aiohttp.ClientSession() as session:
        async with session.get(f"{metrics.address}/metrics") as answer:
            assert answer.status == 200
            assert samples(await answer.text())["streamcore_pipeline_runs", "p", "success"] == 1
        port = int(str(metrics.address).rpartition(":")[2])
        with pytest.raises(BadConfig, match="prometheus_port"):
            await PipelineMetrics(config.model_copy(update={"prometheus_port": port}), store=store).start()
    assert metrics.address is None
    async with PipelineMetrics(store=store) as quiet:
        assert quiet.address is None
