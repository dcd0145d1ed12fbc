"""The pipeline files that commands are given, or find in config/pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamcore.pipelines.models import PipelineConfig

FOLDER = Path("config/pipelines")


def files_of(files: tuple[Path, ...]) -> list[Path]:
    """*files*, or all of FOLDER."""
    from streamcore.pipelines.yaml import files_in

    return list(files) or files_in(FOLDER)


def read(path: Path) -> PipelineConfig:
    """The checked pipeline of the file at *path*."""
    from streamcore.pipelines.kinds.catalogue import KINDS
    from streamcore.pipelines.yaml import checked_pipeline

    return checked_pipeline(path, KINDS)


def of_file(name: str) -> PipelineConfig | None:
    """The pipeline of the file *name*, or of config/pipelines/*name*.yaml; None: it is no file."""
    for path in (Path(name), FOLDER / f"{name}.yaml", FOLDER / f"{name}.yml"):
        if path.suffix in (".yaml", ".yml") and (path.exists() or path == Path(name)):
            return read(path)
    return None
