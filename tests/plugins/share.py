"""Slow and chaos tests in shares: a run takes a twentieth of them, another with another commit.

``--share=auto`` (the default) takes every twentieth, in an order that does not change; the commit says
where to begin, so that commits cover them all. ``--share=all`` and ``--share=none`` say what they do. A test
that the command line names by its id always runs.
"""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

MARKS = ("slow", "chaos")
SHARES = 20
_line = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        choices=("auto", "all", "none"),
        default="auto",
        help="which of the slow and chaos tests run: a twentieth that turns with the commit, all, or none",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--share")
    pool = [item for item in items if any(item.get_closest_marker(mark) for mark in MARKS)]
    if share == "all" or not pool or any("::" in argument for argument in config.args):
        return
    commit = _commit(config.rootpath)
    chosen = set() if share == "none" else choose([item.nodeid for item in pool], commit)
    left = [item for item in pool if item.nodeid not in chosen]
    gone = set(map(id, left))
    items[:] = [item for item in items if id(item) not in gone]
    config.hook.pytest_deselected(items=left)
    line = (
        f"share {share} of commit {commit[:10]}: {len(chosen)} of {len(pool)} slow and chaos tests run, "
        f"{len(left)} are left to other commits (--share=all runs all)"
    )
    # pytest-xdist's workers choose, each the same; the controller tells.
    getattr(config, "workeroutput", {})["share"] = config.stash[_line] = line


def choose(ids: list[str], commit: str) -> set[str]:
    """The share of *ids* that is *commit*'s (a hexadecimal hash)."""
    ordered = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ordered[int(commit, 16) % SHARES :: SHARES])


def _commit(root: object) -> str:
    """The commit that is checked out; outside of a repository always the same share."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "0"
    return done.stdout.strip()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """A worker of pytest-xdist has ended."""
    if "share" in getattr(node, "workeroutput", {}):
        node.config.stash[_line] = node.workeroutput["share"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _line in config.stash:
        terminalreporter.write_line(config.stash[_line])
