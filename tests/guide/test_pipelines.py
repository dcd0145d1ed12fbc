"""The guide's pipelines: in Python and YAML, what is told of them, and its example of a test."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from streamcore import (
    PipelineConfig,
    PipelineMetrics,
    PipelineOrchestrator,
    TaskConfig,
    TaskStatus,
    TaskType,
    load_pipeline,
)
from streamcore.pipelines.schedules import schedule_of
from streamcore.secrets import Secret
from streamcore.settings import Notifications, Settings
from tests.guide.blocks import await_block, block_of, run_block
from tests.guide.conftest import Users
from tests.integration.pipelines.servers import PASSWORD, USER, http_server, mail_server
from tests.services.tls import certificates


def command(*words: str) -> TaskConfig:
    return TaskConfig(task_id="work", task_type=TaskType.COMMAND, parameters={"command": [*words]})


@pytest.mark.parametrize(
    ("emails", "status"), [("a@example.com,b@example.org", "success"), ("a@example.com,nothing", "failed")]
)
def test_the_quick_start(folder: Path, capsys: pytest.CaptureFixture[str], emails: str, status: str) -> None:
    rows = [f"{number},{email}\n" for number, email in enumerate(emails.split(","))]
    (folder / "data" / "input.csv").write_text("id,email\n" + "".join(rows))
    code = compile(block_of("Basic Pipeline Example"), "guide", "exec")
    exec(code, {"__name__": "__main__"})
    assert capsys.readouterr().out == f"Pipeline completed with status: {status}\n"
    assert (folder / "data" / "processed.csv").read_text().count("\n") == 3


async def test_the_pipeline_in_yaml(folder: Path, users: Users) -> None:
    put = {"postgresql://user:pass@host:5432/db": await users(500)}
    (folder / "pipeline.yaml").write_text(block_of("Pipeline Configuration", put))
    config = load_pipeline(folder / "pipeline.yaml")
    schedule = schedule_of(config)
    assert schedule is not None
    began = round(dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone.utc).timestamp() * 1e6)
    hours = [
        dt.datetime.fromtimestamp(at / 1e6, dt.timezone.utc).hour for at in islice(schedule.after(began), 4)
    ]
    assert hours == [6, 12, 18, 0]
    async with PipelineOrchestrator() as orchestrator:
        await orchestrator.register_pipeline(config)
        run_id = await orchestrator.trigger_pipeline("data_processing_pipeline", wait=True)
        status = await orchestrator.get_pipeline_status(run_id)
    assert status is not None
    assert status.status.value == "success", status.reason
    assert pl.read_csv("data/extracted.csv").sort("id").row(-1) == (500, "user 500")


async def test_a_resilient_task_is_tried_again_and_its_dependents_go_on() -> None:
    task = run_block("Retry Mechanisms", {"retry_delay=60": "retry_delay=0.05"})["task_config"]
    assert (task.timeout, run_block("Retry Mechanisms")["task_config"].retry_delay) == (300, 60)
    failing = task.model_copy(
        update={
            "task_type": TaskType.COMMAND,
            "parameters": {**task.parameters, "command": ["sh", "-c", "echo tried >> tries; false"]},
        }
    )
    after = TaskConfig(task_id="after", task_type=TaskType.EMPTY, depends_on=["resilient_task"])
    async with PipelineOrchestrator() as orchestrator:
        await orchestrator.register_pipeline(PipelineConfig(pipeline_id="p", tasks=(failing, after)))
        run_id = await orchestrator.trigger_pipeline("p", wait=True)
        status = await orchestrator.get_pipeline_status(run_id)
    assert status is not None
    assert {name: one.status for name, one in status.tasks.items()} == {
        "resilient_task": TaskStatus.FAILED,
        "after": TaskStatus.SUCCESS,
    }
    assert status.status.value == "success"
    assert Path("tries").read_text().count("tried") == 1 + 3


async def test_a_failure_is_mailed_and_a_success_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    async with mail_server() as mail, http_server() as hooks:
        put = {"https://api.company.com": f"http://127.0.0.1:{hooks.port}"}
        config = run_block("Error Notifications", put)["pipeline_config"]
        settings = Settings(
            notifications=Notifications(
                server="localhost",
                port=mail.port,
                user=USER,
                password=Secret("${env:MAIL_PASSWORD}"),
                sender="pipelines@example.com",
                ca_file=str(certificates().ca),
                allow_private=True,
            )
        )
        async with PipelineOrchestrator(settings=settings) as orchestrator:
            for program in ("false", "true"):
                named = {"pipeline_id": "nightly", "name": "Nightly delays", "tasks": (command(program),)}
                await orchestrator.register_pipeline(config.model_copy(update=named))
                await orchestrator.trigger_pipeline("nightly", wait=True)
            await mail.until(mails=1)
            await hooks.until(posts=1)
    assert [(told["Subject"], told["To"]) for told in mail.mails] == [
        ("Pipeline Failed: Nightly delays", "admin@company.com")
    ]
    assert [post.path for post in hooks.posts] == ["/pipeline-success"]


async def test_the_example_test() -> None:
    nothing = PipelineConfig(pipeline_id="test", tasks=[TaskConfig(task_id="a", task_type=TaskType.EMPTY)])
    await run_block("Example Test", test_config=nothing)["test_pipeline_execution"]()


async def test_custom_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    async with PipelineOrchestrator() as orchestrator:
        for program in ("true", "false"):
            config = PipelineConfig(pipeline_id="pipeline_id", tasks=(command(program),))
            await orchestrator.register_pipeline(config)
            await orchestrator.trigger_pipeline("pipeline_id", wait=True)
    names = await await_block("Monitoring and Metrics")
    assert capsys.readouterr().out == "Success rate: 50.00%\n"
    exported = names["prometheus_metrics"].splitlines()
    labels = '{pipeline="pipeline_id",task="task_id"'
    assert f"streamcore_pipeline_recorded_rows_total{labels}}} 1000.0" in exported
    assert f"streamcore_pipeline_recorded_bytes_total{labels}}} 50000.0" in exported
    assert f'streamcore_pipeline_recorded_errors_total{labels},type="validation_error"}} 1.0' in exported
    assert names["pipeline_metrics"]["errors"] == {"failed": 1, "validation_error": 1}
    await names["metrics"].stop()


async def test_metrics_are_served_where_the_configuration_says() -> None:
    import aiohttp

    assert run_block("Prometheus Integration")["metrics_config"].prometheus_port == 8000
    config = run_block("Prometheus Integration", {"8000\n": "0\n"})["metrics_config"]
    async with PipelineMetrics(config) as metrics, aiohttp.ClientSession() as session:
        assert str(metrics.address).startswith("http://127.0.0.1:")
        async with session.get(f"{metrics.address}/metrics") as answer:
            assert "process_resident_memory_bytes" in await answer.text()
