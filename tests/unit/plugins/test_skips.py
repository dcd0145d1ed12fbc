"""In CI a skip fails unless it is listed, and a listed skip that does not happen fails as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.containers import engine_answers

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest
@pytest.fixture
def server(): pytest.skip("no MySQL server here")
def test_mysql(server): pass
def test_passes(): pass
@pytest.mark.xfail
def test_known_fault(): assert False
"""
ENTRY = '[[allowed]]\ntests = "{}"\nskip = "{}"\nwhy = "needs Docker"\n'


def run(project: Path, entries: str, *options: str, ci: str = "true", tests: str = TESTS) -> tuple[int, str]:
    (project / "tests").mkdir(exist_ok=True)
    (project / "pytest.ini").write_text("[pytest]\ntestpaths = tests\nmarkers =\n  slow\n  chaos\n")
    (project / "tests" / "test_it.py").write_text(tests)
    (project / "tests" / "allowed_skips.toml").write_text(entries)
    plugins = ["-p", "tests.plugins.skips", "-p", "tests.plugins.share"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_without_ci_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, shown = run(tmp_path, "", ci="")
    assert (code, "1 passed, 1 skipped, 1 xfailed" in shown) == (0, True)


def test_an_unlisted_skip_fails_with_its_reason(tmp_path: Path) -> None:
    code, shown = run(tmp_path, "")
    assert code == 1
    assert "skipped in CI and not listed in tests/allowed_skips.toml: Skipped: no MySQL server here" in shown


def test_a_listed_skip_passes(tmp_path: Path) -> None:
    code, shown = run(tmp_path, ENTRY.format("tests/*::test_mysql", "no MySQL server"))
    assert (code, "1 passed, 1 skipped, 1 xfailed" in shown) == (0, True), shown


def test_another_reason_is_not_covered_by_the_entry(tmp_path: Path) -> None:
    code, _ = run(tmp_path, ENTRY.format("tests/*::test_mysql", "no Docker engine"))
    assert code == 1


@pytest.mark.parametrize("pattern", ["tests/*::test_passes", "tests/gone.py*"])
def test_a_stale_entry_fails_and_is_named(tmp_path: Path, pattern: str) -> None:
    entries = ENTRY.format("tests/*::test_mysql", "no MySQL") + ENTRY.format(pattern, "no MySQL")
    code, shown = run(tmp_path, entries)
    assert code == 1
    assert f"stale entry in tests/allowed_skips.toml: {pattern}" in shown


def test_what_the_workers_of_a_parallel_run_saw_is_judged_together(tmp_path: Path) -> None:
    two = ("-p", "xdist.plugin", "-n2")
    listed = ENTRY.format("tests/*::test_mysql", "no MySQL server")
    code, shown = run(tmp_path, listed, *two)
    assert (code, "1 passed, 1 skipped, 1 xfailed" in shown) == (0, True), shown
    code, shown = run(tmp_path, listed + ENTRY.format("tests/*::test_passes", "no MySQL"), *two)
    assert (code, "test_passes ran" in shown) == (1, True), shown
    code, shown = run(tmp_path, listed + ENTRY.format("tests/gone.py*", "no MySQL"), *two)
    assert (code, "no such skip in this run" in shown) == (1, True), shown


def test_an_entry_for_machines_without_docker_holds_there(tmp_path: Path) -> None:
    entry = ENTRY.format("tests/*::test_mysql", "no MySQL server") + 'without = "docker"\n'
    assert run(tmp_path, entry)[0] == int(engine_answers())


def test_a_part_of_the_suite_cannot_judge_entries_for_the_rest(tmp_path: Path) -> None:
    entries = ENTRY.format("tests/gone.py*", "x")
    assert run(tmp_path, entries, "tests/test_it.py::test_passes")[0] == 0
    assert run(tmp_path, entries, "-k", "passes")[0] == 0


def test_an_entry_for_a_test_of_another_share_is_not_stale(tmp_path: Path) -> None:
    tests = "import pytest\ndef test_quick(): pass\n@pytest.mark.slow\ndef test_slow(): pytest.skip('x')\n"
    entries = ENTRY.format("tests/*::test_slow", "x")
    assert run(tmp_path, entries, "--share=none", tests=tests)[0] == 0
    assert run(tmp_path, entries, "--share=all", tests=tests)[0] == 0


def test_a_module_that_skips_itself_is_judged_too(tmp_path: Path) -> None:
    tests = "import pytest\npytest.importorskip('no_such_driver')\ndef test_x(): pass\n"
    code, shown = run(tmp_path, "", tests=tests)
    assert code != 0
    assert "not listed" in shown
    assert run(tmp_path, ENTRY.format("tests/test_it.py", "no_such_driver"), tests=tests)[0] in (0, 5)
