"""``DataSource``: a dictionary that is checked when it is made, and goes wherever dictionaries do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from streamcore import BatchIngestionEngine, DataSource, TaskConfig, TaskType, ValidationRule
from streamcore.errors import BadConfig
from streamcore.settings import Settings
from streamcore.settings.model import State


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"file_path": "x.csv"}, "needs a type"),
        ({"type": "fiel", "file_path": "x.csv"}, "did you mean 'file'"),
        ({"type": "file", "file_pth": "x.csv"}, "file_path"),
        (
            {"type": "database", "database_type": "postgresql", "database": "d", "tabel": "t"},
            "did you mean 'table'",
        ),
    ],
)
def test_mistakes_are_told_when_it_is_made(keys: dict[str, str], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        DataSource(**keys)


def test_it_is_the_dictionary_and_shows_no_values() -> None:
    given = {
        "type": "database",
        "database_type": "postgresql",
        "host": "h",
        "database": "d",
        "username": "u",
        "password": "hunter2",
    }
    source = DataSource(given)
    assert source == given
    assert "hunter2" not in repr(source)
    assert pickle.loads(pickle.dumps(source)) == given


def test_parameters_of_tasks_take_it_and_models() -> None:
    rule = ValidationRule(rule_type="range", column="age", parameters={"max": 120})
    source = DataSource(type="file", file_path="x.csv")
    task = TaskConfig(
        task_id="look",
        task_type=TaskType.VALIDATION,
        parameters={"source_config": source, "validation_rules": [rule]},
    )
    assert task.parameters == {
        "source_config": {"type": "file", "file_path": "x.csv"},
        "validation_rules": [{"rule_type": "range", "column": "age", "parameters": {"max": 120}}],
    }
    assert TaskConfig.model_validate_json(task.model_dump_json()) == task


async def test_engines_take_it(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    engine = BatchIngestionEngine(settings=Settings(state=State(dir=tmp_path / "state")))
    source = DataSource(type="file", file_path=str(tmp_path / "in.csv"))
    assert (await engine.ingest_data(source, str(tmp_path / "out.csv"))).processed_records == 2
