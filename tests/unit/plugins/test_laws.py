"""The conformance table counts laws, not examples, and says what does not hold and why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.plugins.laws import Seen, table

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest
class TestGood:
    @pytest.mark.parametrize("n", range(3))
    def test_each_row_is_there(self, n): pass
    def test_it_ends(self): pass
class TestPoor:
    def test_it_ends(self): pytest.skip("it never does")
    @pytest.mark.parametrize("n", range(3))
    def test_each_row_is_there(self, n): assert n != 1
def test_no_connector(): pass
"""


def test_the_table_at_the_end_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "conformance"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(TESTS)
    (tmp_path / "test_elsewhere.py").write_text("class TestElse:\n    def test_it(self): pass")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.plugins.laws", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if " laws hold" in line]
    assert lines == [
        "it: Good 2 laws hold",
        "it: Poor 0 laws hold; failed: each row is there; skipped: it ends (it never does)",
    ]


def test_a_law_is_the_worst_of_its_examples() -> None:
    found = [Seen("sinks: S3", "it ends", outcome) for outcome in ("passed", "failed", "passed")]
    assert list(table(found)) == [f"{'sinks: S3':<44}   0 laws hold; failed: it ends"]
