"""A working folder with the repository's data and topologies, and the command line in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


class Project:
    """A folder in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run ``streamcore`` with *arguments*; it must end with *code*."""
        done = subprocess.run(
            [sys.executable, "-m", "streamcore.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    def document(self, *arguments: str, code: int = 0) -> dict[str, object]:
        """What ``streamcore … --json`` prints, which must be one document and nothing else."""
        found: dict[str, object] = json.loads(self.run(*arguments, "--json", code=code).stdout)
        return found


def furnish(folder: Path) -> Path:
    """Put the repository's data and topologies into *folder*."""
    for name in ("data", "topologies"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(furnish(tmp_path))
