"""The task that reports on quality: what the task before it has written, kept once, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamcore.engines.quality_history import QualityHistory
from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import TaskContext, TaskFailed
from streamcore.pipelines.kinds.quality_report import QUALITY_REPORT, QualityReportOptions
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from streamcore.quality.report import RunRecord

KEPT = "sqlite:///kept.db"
QUALITY = {
    "dataset": "users",
    "rules": [{"rule_type": "not_null", "column": "email", "rule_id": "address"}],
    "thresholds": [{"rule": "address", "warn": 0.9, "fail": 0.4}],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"id": [1, 2], "email": ["a@b.co", None]}).write_csv("users.csv")
    return tmp_path


def pipeline(**quality: Any) -> PipelineConfig:
    """Users transformed, and what is found of them."""
    transform = {
        "source_config": "users.csv",
        "destination_config": "clean.parquet",
        "operations": [{"type": "add_column", "column": "twice", "expression": "id * 2"}],
    }
    report = {"quality": {**QUALITY, **quality}, "output": "out/users.html", "store": KEPT}
    return PipelineConfig(
        pipeline_id="p",
        tasks=[
            TaskConfig(task_id="clean", task_type=TaskType.TRANSFORMATION, parameters=transform),
            TaskConfig(
                task_id="look", task_type=TaskType.QUALITY_REPORT, depends_on=["clean"], parameters=report
            ),
        ],
    )


def kept() -> Sequence[RunRecord]:
    """The looks at users."""
    with QualityHistory(KEPT) as history:
        return history.history("users", 5)


async def test_it_reports_on_what_the_task_before_has_written(folder: Path) -> None:
    async with PipelineOrchestrator("memory:") as orchestrator:
        await orchestrator.register_pipeline(pipeline())
        run_id = await orchestrator.trigger_pipeline("p", wait=True)
        view = await orchestrator.get_pipeline_status(run_id)
    assert view is not None
    assert view.status == "success"
    assert "1 rows fail address" in str(view)
    assert "<h3>twice</h3>" in Path("out/users.html").read_text()
    (record,) = kept()
    assert (record.level, record.rows) == ("warn", 2)


async def test_a_failed_threshold_fails_the_run_and_an_attempt_again_keeps_nothing_twice(
    folder: Path,
) -> None:
    context = TaskContext("p", "r1", "look", 1)
    failing = {**QUALITY, "thresholds": [{"metric": "completeness", "fail": 0.9}]}
    options = QualityReportOptions(source_config="users.csv", quality=failing, store=KEPT)
    for _ in range(2):
        with pytest.raises(TaskFailed, match=r"completeness is 75.00%"):
            await QUALITY_REPORT.run(options, context)
    assert len(kept()) == 1
    allowed = options.model_copy(update={"fail_on": "nothing"})
    assert (await QUALITY_REPORT.run(allowed, TaskContext("p", "r2", "look", 1))).rows == 2
    assert len(kept()) == 2


async def test_mistakes_in_rules_are_told_when_it_is_registered() -> None:
    wrong = pipeline(rules=[{"rule_type": "not_nul", "column": "email"}], thresholds=[])
    async with PipelineOrchestrator("memory:") as orchestrator:
        with pytest.raises(BadConfig, match="did you mean 'not_null'"):
            await orchestrator.register_pipeline(wrong)
