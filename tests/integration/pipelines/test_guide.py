"""The guide's pipelines with their import lines changed; it leaves data and ``test_config`` to fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

GUIDE = """\
import asyncio
from streamcore import PipelineOrchestrator
from streamcore import PipelineConfig, TaskConfig, TaskType

async def main():
    # Create pipeline configuration
    pipeline_config = PipelineConfig(
        pipeline_id="my_data_pipeline",
        name="My Data Processing Pipeline",
        description="Process user data from CSV files",
        tasks=[
            TaskConfig(
                task_id="ingest_data",
                task_type=TaskType.INGESTION,
                name="Ingest Data",
                parameters={
                    "source_config": {
                        "type": "file",
                        "file_path": "data/input.csv",
                        "file_format": "csv"
                    },
                    "destination_config": {
                        "type": "file",
                        "file_path": "data/processed.csv",
                        "file_format": "csv"
                    }
                }
            ),
            TaskConfig(
                task_id="validate_data",
                task_type=TaskType.VALIDATION,
                name="Validate Data",
                depends_on=["ingest_data"],
                parameters={
                    "validation_rules": [
                        {
                            "rule_id": "email_check",
                            "name": "Email Format",
                            "rule_type": "email",
                            "column": "email"
                        }
                    ]
                }
            )
        ]
    )

    # Initialize orchestrator
    orchestrator = PipelineOrchestrator()

    # Start orchestrator
    await orchestrator.start()

    # Register pipeline
    pipeline = await orchestrator.register_pipeline(pipeline_config)

    # Trigger execution
    run_id = await orchestrator.trigger_pipeline(pipeline.pipeline_id)

    # Monitor execution
    while True:
        status = await orchestrator.get_pipeline_status(run_id)
        if status and status.status.value in ["success", "failed"]:
            print(f"Pipeline completed with status: {status.status}")
            break
        await asyncio.sleep(1)

    # Stop orchestrator
    await orchestrator.stop()

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("emails", "status"), [("a@example.com,b@example.org", "success"), ("a@example.com,nothing", "failed")]
)
def test_the_quick_start(folder: Path, capsys: pytest.CaptureFixture[str], emails: str, status: str) -> None:
    rows = [f"{number},{email}\n" for number, email in enumerate(emails.split(","))]
    (folder / "data" / "input.csv").write_text("id,email\n" + "".join(rows))
    exec(compile(GUIDE, "guide", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == f"Pipeline completed with status: {status}\n"
    assert (folder / "data" / "processed.csv").read_text().count("\n") == 3


async def test_the_example_test() -> None:
    from streamcore import PipelineConfig, PipelineOrchestrator, PipelineStatus, TaskConfig, TaskType

    test_config = PipelineConfig(
        pipeline_id="test", tasks=[TaskConfig(task_id="nothing", task_type=TaskType.EMPTY)]
    )
    orchestrator = PipelineOrchestrator()
    await orchestrator.start()

    # Test pipeline registration and execution
    pipeline = await orchestrator.register_pipeline(test_config)
    run_id = await orchestrator.trigger_pipeline(pipeline.pipeline_id)

    # Verify execution
    status = await orchestrator.get_pipeline_status(run_id)
    assert status is not None
    assert status.status == PipelineStatus.SUCCESS

    await orchestrator.stop()
