"""Pipelines in YAML: the guide's file, references, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.yaml import checked_pipeline, errors_in, files_in, load_pipeline
from tests.guide.blocks import block_of


class CopyOptions(Options):
    """What a task of these tests takes."""

    source_config: dict[str, object]
    destination_config: dict[str, object]
    chunk_size: int = 10


async def nothing(options: Options, context: TaskContext) -> TaskResult:
    return TaskResult()


KINDS = {TaskType.INGESTION: Kind(CopyOptions, nothing), TaskType.EMPTY: Kind(Options, nothing, instant=True)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "p.yaml"


def test_the_guides_file(file: Path) -> None:
    file.write_text(block_of("Pipeline Configuration"))
    config = checked_pipeline(file, KINDS)
    assert (config.pipeline_id, config.schedule, config.max_parallel_tasks) == (
        "data_processing_pipeline", "0 */6 * * *", 5,
    )  # fmt: skip
    (task,) = config.tasks
    assert (task.task_type, task.retry_count, task.timeout) == (TaskType.INGESTION, 3, 300)
    assert task.parameters["destination_config"] == {"type": "file", "file_path": "data/extracted.csv"}


def test_few_fields_are_enough_to_make_one() -> None:
    assert TaskConfig(task_id="x").timeout is None
    assert (
        PipelineConfig(notifications={"on_failure": {"type": "email", "recipients": ["a@b.c"]}}).tasks == ()
    )  # type: ignore[dict-item]
    task = TaskConfig(task_id="x", parameters={"continue_on_error": True})
    assert task.continue_on_error


def test_references_are_resolved_but_in_parameters(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        "pipeline_id: ${PIPELINE:nightly}\nmax_parallel_tasks: ${PARALLEL:3}\ntasks:\n"
        "  - {task_id: a, task_type: empty, timeout: '${LIMIT:5m}', parameters: {x: '${env:PASSWORD}'}}\n"
    )
    monkeypatch.setenv("PARALLEL", "7")
    config = load_pipeline(file)
    assert (config.pipeline_id, config.max_parallel_tasks, config.tasks[0].timeout) == ("nightly", 7, 300)
    assert config.tasks[0].parameters == {"x": "${env:PASSWORD}"}


TASK = "tasks:\n  - task_id: a\n    task_type: empty\n"
PARAMETERS = TASK + "    parameters:"


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", "", "the pipeline file is empty"),
        ("pipeline_id: [", ":1:15", "is not YAML"),
        ("- a", ":1:1", "must be a mapping"),
        ("pipeline_id: p\npipeline_id: q\n", ":2:1", "'pipeline_id' is given twice"),
        ("pipeline_id: p\ntaks: []\n", ":2:1", "did you mean 'tasks'"),
        (f"pipeline_id: p\n{TASK}    retry_cont: 3\n", ":5:5", "did you mean 'retry_count'"),
        (f"pipeline_id: p\n{TASK}    retry_count: many\n", ":5:5", "must be a valid integer"),
        (f"pipeline_id: p\n{TASK}    timeout: 5 weeks\n", ":5:5", "this is no duration"),
        ("pipeline_id: p\ntasks:\n  - {task_id: a, task_type: emty}\n", ":3:18", "did you mean 'empty'"),
        (TASK, "", "a pipeline_id is missing"),
        ("pipeline_id: p/q\n" + TASK, ":1:1", "letters, digits"),
        ("pipeline_id: p\n", "", "needs a task"),
        ("pipeline_id: p\ntasks: [{task_type: empty}]\n", ":2:9", "a task_id is missing"),
        ("pipeline_id: p\ntasks: [{task_id: a}]\n", ":2:9", "a task_type is missing"),
        ("pipeline_id: p\ntasks: [{task_id: a, task_type: sql}]\n", ":2:22", "can't run here"),
        (f"pipeline_id: p\n{TASK}    depends_on: [b]\n", ":5:18", "there is no task 'b'"),
        (f"pipeline_id: p\n{TASK}    depends_on: [a]\n", ":5:18", "depends on itself"),
        (f"pipeline_id: p\n{TASK}  - task_id: a\n    task_type: empty\n", ":5:5", "two tasks have this"),
        (f"pipeline_id: p\n{PARAMETERS}\n      continue_on_eror: true\n", ":6:7", "continue_on_error"),
        (f"pipeline_id: p\n{PARAMETERS} {{continue_on_error: maybe}}\n", ":5:18", "valid boolean"),
        ("pipeline_id: p\nname: ${NO_SUCH}\n" + TASK, ":2:1", "NO_SUCH is not set"),
        (f"pipeline_id: p\n{PARAMETERS} {{x: '${{NO_SUCH}}'}}\n", ":5:18", "NO_SUCH is not set"),
        (f"pipeline_id: p\n{PARAMETERS} {{x: '${{param:day}}'}}\n", ":5:5", "no param 'day'"),
        ("pipeline_id: p\nnotifications:\n  on_faillure: {type: email}\n" + TASK, ":3:3", "'on_failure'"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_column(file: Path, text: str, place: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(BadConfig) as caught:
        checked_pipeline(file, KINDS)
    where = caught.value.where or ""
    assert where.startswith(f"{file}{place}")
    assert not place or where.partition(",")[0] == f"{file}{place}"
    assert says in str(caught.value)


def test_all_problems_are_told_at_once(file: Path) -> None:
    file.write_text("pipeline_id: p\ntasks: [{task_id: a}, {task_type: empty, depends_on: [c]}]\n")
    assert len(list(errors_in(file, KINDS))) == 3


def test_no_value_of_a_parameter_is_shown(file: Path) -> None:
    file.write_text(
        "pipeline_id: p\ntasks:\n  - task_id: a\n    task_type: ingestion\n    parameters:\n"
        "      source_config: hunter2\n      destination_config: {password: hunter2}\n"
        "      chunk_size: hunter2\n"
    )
    errors = list(errors_in(file, KINDS))
    assert len(errors) == 2
    assert "hunter2" not in "".join(map(str, errors))


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files_in(tmp_path)] == ["a.yml", "b.yaml"]
    with pytest.raises(BadConfig, match="no such folder"):
        files_in(tmp_path / "none")


def test_a_bomb_of_aliases_is_refused(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    file.write_text("\n".join(lines))
    with pytest.raises(BadConfig, match="too many values"):
        load_pipeline(file)
