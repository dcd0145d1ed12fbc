"""In CI a skip is a failure unless ``allowed_skips.toml`` lists it; an entry that nothing needs fails too.

An entry has ``tests`` (a pattern of test ids, as in a shell), ``skip`` (a part of the skip's own reason) and
``why`` (the reason why that is all right). One with ``without = "docker"`` holds only where no Docker engine
answers, one with "mount" where nobody may mount a file system. Without ``CI=true`` skips are what they
always were.

With pytest-xdist each worker judges its own skips, and the controller judges the entries by what all saw.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.services.containers import engine_answers
from tests.services.small_disk import can_mount

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

FILE = "tests/allowed_skips.toml"


@dataclass
class Allowed:
    """One entry of the file, and what the run showed about it."""

    tests: str
    skip: str
    why: str
    without: Literal["", "docker", "mount"] = ""
    used: bool = field(default=False, init=False)
    passed: list[str] = field(default_factory=list, init=False)

    def matches(self, test: str, reason: str) -> bool:
        return fnmatchcase(test, self.tests) and self.skip in reason


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipRule(config), "skip rule")


class SkipRule:
    """The rule of one run under ``CI=true``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._entries = _read(config.rootpath / FILE)
        # Only a run of everything can tell that an entry matches no test at all.
        selective = (
            config.getoption("keyword")
            or config.getoption("markexpr")
            or config.getoption("lf", default=False)
        )
        self._whole = config.args_source is not config.ArgsSource.ARGS and not selective
        self._stale: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            self._judge(report)
        elif report.when == "call" and report.passed:
            for entry in self._entries:
                if fnmatchcase(report.nodeid, entry.tests):
                    entry.passed.append(report.nodeid)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.skipped:
            self._judge(report)
        return report

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """An entry may be for a test of another share: this run can't judge it."""
        for entry in self._entries:
            entry.used |= any(fnmatchcase(item.nodeid, entry.tests) for item in items)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found = [entry for entry in self._entries if entry.matches(report.nodeid, reason)]
        for entry in found:
            entry.used = True
        if not found:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI and not listed in {FILE}: {reason}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """A worker of pytest-xdist has ended: what it saw of each entry."""
        seen = getattr(node, "workeroutput", {}).get("skips", [])
        for entry, (used, passed) in zip(self._entries, seen, strict=False):
            entry.used |= used
            entry.passed += passed

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["skips"] = [(entry.used, entry.passed) for entry in self._entries]
            return
        for entry in self._entries:
            if not entry.used and entry.passed:
                self._stale.append(f"{entry.tests} ({entry.skip}): {entry.passed[0]} ran")
            elif not entry.used and self._whole:
                self._stale.append(f"{entry.tests} ({entry.skip}): no such skip in this run")
        if self._stale and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._stale:
            terminalreporter.write_line(f"stale entry in {FILE}: {line}", red=True)


def _read(path: Path) -> list[Allowed]:
    if not path.exists():
        return []
    entries = [Allowed(**entry) for entry in tomllib.loads(path.read_text()).get("allowed", [])]
    able = {"docker": engine_answers, "mount": can_mount}
    return [entry for entry in entries if not (entry.without and able[entry.without]())]
