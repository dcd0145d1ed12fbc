"""Finds the code blocks of a Markdown page and runs them as a reader would: in order, in one folder.

A block's first line may be a comment that the reader sees too: ``# no-run: reason`` (it is then only
parsed) or ``# file: path`` (it is first written there, then parsed or run).
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.yaml import checked_pipeline
from streamcore.settings import load

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data" / "README.md"])
CHECKED = ("python", "bash", "yaml")
PROSE = ("text", "mermaid", "json", "csv", "sql", "toml")
"""Languages of blocks that show output or files; every other one is a mistake."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.M | re.S)
_MARK = re.compile(r"\A# (?P<kind>no-run|file): (?P<text>.+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its place, its language, its text and its mark."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def no_run(self) -> str | None:
        match = _MARK.match(self.text)
        return match["text"].strip() if match and match["kind"] == "no-run" else None

    @property
    def file(self) -> str | None:
        match = _MARK.match(self.text)
        return match["text"].strip() if match and match["kind"] == "file" else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of *page*."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: m.start()].count("\n") + 1, m["language"].strip(), m["body"])
        for m in _FENCE.finditer(text)
    ]


def parse(block: Block) -> None:
    """Raise unless *block* is written in its language."""
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    elif block.language == "yaml":
        yaml.safe_load(block.text)


def prepare(folder: Path) -> None:
    """What a reader has after cloning the repository, without its history and environment."""
    for name in ("data", "topologies", "config"):
        shutil.copytree(ROOT / name, folder / name)


def run(block: Block, folder: Path, namespace: dict[str, object]) -> None:
    """Run *block* in *folder*; Python blocks of a page share *namespace*. Raises when it fails."""
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    if block.language == "python":
        exec(compile(block.text, str(block), "exec", dont_inherit=True), namespace)
    elif block.language == "yaml":
        file = folder / "block.yaml"
        file.write_text(block.text, encoding="utf-8")
        if re.search(r"^pipeline_id:", block.text, re.M):
            checked_pipeline(file, KINDS)
        else:
            load(file=file, environ={})
    elif block.language == "bash":
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def environment() -> Mapping[str, str]:
    """The commands of this environment first on the path."""
    bin = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
