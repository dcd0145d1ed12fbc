"""No block of the guide is left out, and none is run that is not there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guide.blocks import OPEN, guide_blocks

RUNS = ("run_block", "await_block", "block_of")


def test_every_block_is_run_by_a_test_here() -> None:
    headings = set(guide_blocks())
    assert headings == OPEN.keys()
    run: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNS:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    run.add(str(first.value))
    assert run == headings


def test_each_imports_what_it_does_not_leave_open() -> None:
    for heading, block in guide_blocks().items():
        assert ("src.data_pipeline" in block.text) or OPEN[heading].imports or heading in NAMELESS


NAMELESS = {
    "Pipeline Configuration",
    "Data Source Configuration",
    "Data Validation Rules",
    "Data Transformations",
}
"""Blocks of plain data."""
