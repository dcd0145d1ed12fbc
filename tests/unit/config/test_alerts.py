"""The alerts fire when they should, use metrics that exist, and point to an existing paragraph."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from streamcore.observability.metrics import table
from streamcore.pipelines.metrics import LABELS as PIPELINES

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "config" / "prometheus"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
TESTS = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
LABELS = {row.name: set(row.labels) for row in table()} | PIPELINES


@pytest.mark.parametrize(
    "words", [("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")], ids=" ".join
)
def test_promtool_is_content(promtool: str, words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_uses_metrics_that_exist(rule: dict[str, str]) -> None:
    used = set(re.findall(r"\bstreamcore_\w+", rule["expr"]))
    assert used <= LABELS.keys()
    assert used or "up{" in rule["expr"] or "process_start_time_seconds" in rule["expr"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_where_to_read(rule: dict[str, dict[str, str]]) -> None:
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    file, _, anchor = annotations["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_alert_is_tested_for_firing_and_for_silence() -> None:
    seen: dict[str, set[bool]] = {}
    for test in TESTS:
        for check in test["alert_rule_test"]:
            seen.setdefault(check["alertname"], set()).add(bool(check["exp_alerts"]))
    assert seen == {rule["alert"]: {True, False} for rule in RULES}


def test_the_series_of_the_tests_have_the_labels_that_we_give() -> None:
    for test in TESTS:
        for series in test["input_series"]:
            name, _, labels = series["series"].partition("{")
            if name.startswith("streamcore_"):
                assert set(re.findall(r"(\w+)=", labels)) == LABELS[name], name
