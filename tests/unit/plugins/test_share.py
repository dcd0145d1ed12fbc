"""The shares cover every slow test, turn with the commit, and are told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.share import SHARES, choose

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest
def test_quick(): pass
@pytest.mark.slow
@pytest.mark.parametrize("n", range(6))
def test_slow(n): pass
@pytest.mark.chaos
@pytest.mark.parametrize("n", range(2))
def test_chaos(n): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n  chaos\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def run(project: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.plugins.share", "-p", "no:cacheprovider", *options],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("count", [1, 3, 4, 30, 31])
def test_as_many_commits_as_shares_cover_everything_once(count: int) -> None:
    ids = [f"tests/x.py::test[{n}]" for n in range(count)]
    shares = [choose(ids, f"a{digit:x}") for digit in range(SHARES)]
    assert sorted(name for share in shares for name in share) == sorted(ids)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert choose(list(reversed(ids)), "a1") == shares[1]


def test_auto_takes_a_share_and_says_so(project: Path) -> None:
    shown = run(project)
    assert "share auto of commit 0: 1 of 8 slow and chaos tests run, 7 are left" in shown
    assert "2 passed, 7 deselected" in shown


def test_a_parallel_run_says_it_too(project: Path) -> None:
    shown = run(project, "-p", "xdist.plugin", "-n2")
    assert "share auto of commit 0: 1 of 8 slow and chaos tests run, 7 are left" in shown
    assert "2 passed" in shown


def test_all_none_and_a_test_by_its_id(project: Path) -> None:
    assert "9 passed" in run(project, "--share=all")
    assert "1 passed, 8 deselected" in run(project, "--share=none")
    assert "6 passed" in run(project, "test_it.py::test_slow")


def test_the_share_turns_with_the_commit(project: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=project, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd=project, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    listed = run(project, "--collect-only", "-q").splitlines()
    slow = [f"test_it.py::test_slow[{n}]" for n in range(6)] + [
        f"test_it.py::test_chaos[{n}]" for n in (0, 1)
    ]
    assert {line for line in listed if line in slow} == choose(slow, commit.strip())
