"""Pipelines in YAML files: ``config/pipelines/*.yaml``, one pipeline a file.

References of :mod:`streamcore.secrets` may stand in every value. In ``parameters`` and ``notifications``
they stay as they are written until they are used, since they may lead to secrets; everywhere else they are
resolved here. Errors name file, line and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from pydantic import JsonValue, ValidationError

from streamcore.errors import BadConfig
from streamcore.pipelines.checks import Kinds, problems
from streamcore.pipelines.models import PipelineConfig
from streamcore.pipelines.problems import of_validation
from streamcore.secrets import resolve
from streamcore.settings.nodes import At, Document

FOLDER = Path("config/pipelines")
LATE = ("parameters", "notifications")
"""Fields whose references are resolved when they are used."""


def load_pipeline(path: str | Path) -> PipelineConfig:
    """The pipeline of the file at *path*; fields that are missing have their defaults.

    BadConfig with file:line:column: not readable, not YAML, an unknown field, a wrong value.
    """
    return _read(Path(path))[0]


def checked_pipeline(path: str | Path, kinds: Kinds) -> PipelineConfig:
    """:func:`load_pipeline`, ready to be registered; BadConfig, with its place, for the first problem."""
    for error in errors_in(Path(path), kinds):
        raise error
    return load_pipeline(path)


def errors_in(path: Path, kinds: Kinds) -> Iterator[BadConfig]:
    """All that is wrong with the file at *path*, each with its place."""
    try:
        config, document = _read(path)
    except BadConfig as error:
        yield error
        return
    for problem in problems(config, kinds):
        yield problem.error(document.place(problem.at))


def files_in(folder: Path) -> list[Path]:
    """The pipeline files of *folder*, by name; BadConfig when there is no such folder."""
    if not folder.is_dir():
        raise BadConfig("there is no such folder", where=str(folder), fix="make it, or name another one")
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))


def _read(path: Path) -> tuple[PipelineConfig, Document]:
    document = Document(path, "the pipeline file")
    if not document.data:
        raise BadConfig("the pipeline file is empty", where=str(path), fix="add pipeline_id: and tasks:")
    data = {str(key): _resolved(value, (key,), document) for key, value in document.data.items()}
    try:
        return PipelineConfig.model_validate(data), document
    except ValidationError as error:
        problem = next(of_validation(error, PipelineConfig))
        raise problem.error(document.place(problem.at)) from None


def _resolved(value: object, at: At, document: Document) -> JsonValue:
    """*value* with its references resolved, but those that stay until they are used."""
    if at[-1] in LATE:
        return cast("JsonValue", value)
    if isinstance(value, Mapping):
        return {str(key): _resolved(inner, (*at, key), document) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, (*at, number), document) for number, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return cast("JsonValue", value)
    try:
        return resolve(value)
    except BadConfig as error:
        place = f"{document.place(at)}, {error.where}" if error.where else document.place(at)
        raise BadConfig(error.what, where=place, allowed=error.allowed, fix=error.fix) from None
