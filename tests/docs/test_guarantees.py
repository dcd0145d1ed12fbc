"""docs/guarantees.md says by which test each promise is shown: those tests are there, by their names.

And the newest table of docs/chaos-table.md is the one that docs/chaos-runs.jsonl, the journal, makes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.kinds import KINDS
from tests.faults.test_chaos import PLANTED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
TABLES, JOURNAL = ROOT / "docs" / "chaos-table.md", ROOT / "docs" / "chaos-runs.jsonl"
NAMED = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)(?:::(\w+))?`", PAGE)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_test_that_the_page_names_is_there(file: str, name: str) -> None:
    found = [ROOT / file] if "/" in file else list((ROOT / "tests").rglob(file))
    texts = [path.read_text() for path in found if path.exists()]
    assert texts, f"no {file}"
    assert any(f"def {name}" in text for text in texts), f"{file} has no {name}"


@pytest.mark.parametrize(("mistake", "kind"), PLANTED)
def test_the_page_tells_of_each_planted_mistake(mistake: str, kind: str) -> None:
    assert f"| `{mistake}` | {kind} |" in PAGE


def test_the_tables_of_the_journal_are_those_that_are_shown() -> None:
    records = runs.read(JOURNAL)
    found = {record.kind for record in records}
    lines = runs.table(records, [name for name in KINDS if name in found])
    assert runs.markdown(lines, runs.bound(records)).strip() in TABLES.read_text()
    assert all("| " + " | ".join(line) + " |" in PAGE for line in runs.by_pipeline(records))
