"""The conformance table at the end of a run: of each connector how many laws hold, and what was left out.

A connector is a class of tests below tests/conformance, behind the name of its module; a law is one of its
tests, with all its examples.
Slow connectors are in a run by a share of their laws (:mod:`.share`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

FOLDER = "tests/conformance/"
_WORST = ("failed", "skipped", "passed")


class Seen(NamedTuple):
    """How a test ended; *reason* of a skip."""

    connector: str
    law: str
    outcome: str
    reason: str = ""


def seen(report: pytest.TestReport) -> Seen | None:
    """What *report* says of a law; None for what is no law, and for steps that do not decide."""
    file, _, rest = report.nodeid.partition("::")
    kind, _, test = rest.partition("::")
    decides = report.when == "call" or report.outcome != "passed"
    if not file.startswith(FOLDER) or not test or not decides:
        return None
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    suite = file.rpartition("/")[2].removeprefix("test_").removesuffix(".py").replace("_", " ")
    law = test.partition("[")[0].removeprefix("test_").replace("_", " ")
    return Seen(
        f"{suite}: {kind.removeprefix('Test')}", law, report.outcome, reason.removeprefix("Skipped: ")
    )


def table(all_seen: Iterable[Seen]) -> Iterator[str]:
    """A line for each connector. A law counts as the worst of its examples."""
    connectors: dict[str, dict[str, Seen]] = defaultdict(dict)
    for one in all_seen:
        laws = connectors[one.connector]
        before = laws.get(one.law, one)
        laws[one.law] = min(before, one, key=lambda found: _WORST.index(found.outcome))
    for connector, laws in sorted(connectors.items()):
        passed = sum(law.outcome == "passed" for law in laws.values())
        line = f"{connector:<44} {passed:>3} laws hold"
        for law in sorted(laws.values()):
            if law.outcome == "failed":
                line += f"; failed: {law.law}"
            elif law.outcome == "skipped":
                line += f"; skipped: {law.law} ({law.reason})"
        yield line


class Laws:
    """Collects what the run's processes report."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (one := seen(report)) is not None:
            self._seen.append(one)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._seen:
            terminalreporter.section("conformance: connector, laws")
            for line in table(self._seen):
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Laws(), "laws-table")
