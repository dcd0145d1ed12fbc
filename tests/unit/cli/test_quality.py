"""``streamcore quality``: what it prints, as JSON too, what it writes and keeps, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from streamcore.cli.app import run

RULES = """
dataset: flights
source: flights.parquet
secret_columns: [destination]
rules:
  - {rule_id: plausible, rule_type: range, column: delay, parameters: {min: -60, max: 600}, severity: warning}
  - {rule_id: codes, rule_type: regex, column: origin, parameters: {pattern: "^[A-Z]{3}$"}}
timeliness: {column: date, max_age: 30d}
thresholds:
  - {metric: completeness, fail: 0.99}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flights = pl.read_parquet(Path(__file__).parents[3] / "data" / "flights-200k.parquet")
    flights[:5_000].write_parquet("flights.parquet")
    flights[5_000:10_000].with_columns(pl.col("delay") + 30).write_parquet("later.parquet")
    Path("rules.yaml").write_text(RULES)
    return tmp_path


def document(capsys, *arguments, code=0):
    assert run((*arguments, "--json")) == code
    return json.loads(capsys.readouterr().out)


def test_a_run_is_fine_kept_and_without_secrets(capsys):
    found = document(capsys, "quality", "run", "--rules", "rules.yaml", "--as-of", "2001-01-20")
    assert (found["dataset"], found["level"], found["rows"]) == ("flights", "warn", 5_000)
    assert found["rule_levels"] == {"plausible": "warn", "codes": "ok"}
    samples = found["validation"]["rules"][0]["samples"]
    assert {sample["row"]["destination"] for sample in samples} == {"•••"}
    kept = document(capsys, "quality", "history", "flights")["looks"]
    assert [look["as_of"] for look in kept] == ["2001-01-20T00:00:00Z"]


def test_how_a_metric_went_on_is_shown_beside_it_and_by_itself(capsys):
    Path("rules.yaml").write_text(
        RULES.replace("source: flights.parquet\n", "").replace("max: 600", "max: 60")
    )
    for source, day in (("flights.parquet", "20"), ("later.parquet", "21")):
        arguments = ["quality", "run", source, "--rules", "rules.yaml", "--as-of", f"2001-01-{day}"]
        assert run(arguments) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("validity") and "█▁" in line
    ][:1]
    assert line.startswith("validity")
    now, before = (float(word[:-1]) for word in line.split() if word.endswith("%"))
    assert now < before

    assert run(["quality", "history", "flights", "--column", "delay"]) == 0
    table = capsys.readouterr().out
    assert "2001-01-20" in table
    assert table.count("warn") == 2
    assert "timeliness" not in table  # is not told of columns
    assert document(capsys, "quality", "history")["looks"][0]["dataset"] == "flights"
    assert run(["quality", "history"]) == 0
    assert "2001-01-21" in capsys.readouterr().out
    assert run(["quality", "history", "flight"]) == 2
    assert "did you mean 'flights'" in capsys.readouterr().err


def test_a_failed_threshold_is_exit_code_1(capsys):
    Path("rules.yaml").write_text(RULES + "  - {metric: timeliness, fail: 0.9}\n")
    assert document(capsys, "quality", "run", "--rules", "rules.yaml", code=1)["level"] == "fail"
    assert run(["quality", "run", "--rules", "rules.yaml"]) == 1
    text = capsys.readouterr().out
    assert "timeliness" in text
    assert "plausible" in text or "range" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "which dataset?"),
        (["run", "gone.csv"], "no such file"),
        (["run", "flights.parquet", "--rules", "gone.yaml"], "the rules can't be read"),
        (["run", "flights.parquet", "--rules", "bad.yaml"], "bad.yaml:2:1"),
        (["run", "flights.parquet", "--rules", "list.yaml"], "must be a mapping"),
        (["run", "flights.parquet", "--rules", "typo.yaml"], "did you mean 'delay'"),
        (["drift", "flights.parquet"], "has no baseline"),
        (["run", "flights.parquet", "--dataset", "../x"], "can't be the name of a dataset"),
        (["run", "flights.parquet", "--as-of", "yesterday"], "yesterday"),
    ],
)
def test_mistakes_are_exit_code_2(capsys, arguments, said):
    Path("bad.yaml").write_text("rules: [\n")
    Path("list.yaml").write_text("- a\n")
    Path("typo.yaml").write_text("rules: [{rule_type: not_null, column: dely}]\n")
    assert run(["quality", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_profile_drift_and_baselines(capsys):
    assert (
        document(capsys, "quality", "profile", "flights.parquet", "--save", "out/before.json")["rows"]
        == 5_000
    )
    same = document(capsys, "quality", "drift", "flights.parquet", "--baseline", "out/before.json")
    assert same["level"] == "ok"
    moved = document(capsys, "quality", "drift", "later.parquet", "--baseline", "out/before.json", code=1)
    assert [column["name"] for column in moved["columns"] if column["level"] == "fail"] == ["delay"]
    by_source = document(capsys, "quality", "drift", "later.parquet", "--baseline", "flights.parquet", code=1)
    assert by_source["columns"] == moved["columns"]
    assert run(["quality", "profile", "flights.parquet", "--keep"]) == 0
    assert "flights" in capsys.readouterr().out
    assert run(["quality", "drift", "later.parquet", "--dataset", "flights"]) == 1
    assert "stability index is" in capsys.readouterr().out


def test_a_report_is_a_page_by_itself(capsys):
    shutil.copy("flights.parquet", "now.parquet")
    for _ in range(2):
        assert run(["quality", "report", "--rules", "rules.yaml", "--output", "out/flights.html"]) == 0
    page = Path("out/flights.html").read_text()
    assert "flights" in capsys.readouterr().out
    assert page.count("<svg") > 5
    assert "last 2 looks" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
