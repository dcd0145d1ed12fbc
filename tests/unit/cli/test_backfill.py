"""``streamcore backfill``: previews, makes, shows and cancels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore.cli.app import run

FILE = """\
pipeline_id: nightly
schedule: 30 2 * * *
timezone: Europe/Berlin
parameters: {full: false}
tasks: [{task_id: a, task_type: empty}]
"""
RANGE = ("nightly", "--from", "2026-03-28", "--to", "2026-03-31")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nightly.yaml").write_text(FILE)
    Path("asked.yaml").write_text("pipeline_id: asked\ntasks: [{task_id: a, task_type: empty}]\n")
    assert run(["pipeline", "register", "nightly.yaml", "asked.yaml"]) == 0


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run(["backfill", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_the_preview_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "create", *RANGE, "--backwards", "--dry-run")
    assert shown["backfill_id"] is None
    assert [(row["local"], row["step"]) for row in shown["firings"]] == [
        ("2026-03-30T02:30:00+02:00", "run"),
        ("2026-03-29T03:00:00+02:00", "run"),
        ("2026-03-28T02:30:00+01:00", "run"),
    ]
    assert said(capsys, "list")["backfills"] == []

    made = said(capsys, "create", *RANGE, "--parallel", "2", "--reprocess", "all", "--param", "full=true")
    assert made["firings"] == shown["firings"][::-1]
    (listed,) = said(capsys, "list", "nightly")["backfills"]
    assert {key: listed[key] for key in ("backfill_id", "status", "progress", "parallel", "reprocess")} == {
        "backfill_id": made["backfill_id"],
        "status": "running",
        "progress": "0/3",
        "parallel": 2,
        "reprocess": "all",
    }
    assert said(capsys, "cancel", made["backfill_id"][:8])["cancelled"]
    assert not said(capsys, "cancel", "last")["cancelled"]
    assert said(capsys, "list")["backfills"][0]["status"] == "cancelled"


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["backfill", "create", "nightly", "--from", "2026-01-01", "--to", "2026-02-01", "--dry-run"]) == 0
    )
    text = capsys.readouterr().out
    assert "… and 11 more" in text
    assert "31 firings to run, 0 left out, 1 at once" in text
    assert "nothing was made" in text
    assert run(["backfill", "create", *RANGE]) == 0
    assert "streamcore pipeline worker" in capsys.readouterr().out
    assert run(["backfill", "list"]) == 0
    assert "0/3" in capsys.readouterr().out
    assert run(["backfill", "cancel", "last"]) == 0
    assert "is cancelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["create", "nighly", "--from", "2026-01-01"], "did you mean 'nightly'"),
        (["create", "asked", "--from", "2026-01-01"], "has no schedule"),
        (["create", "nightly"], "--from"),
        (["create", "nightly", "--from", "2026-03-31", "--to", "2026-03-28"], "nothing was due"),
        (["create", "nightly", "--from", "2026-01-01", "--param", "ful=1"], "did you mean 'full'"),
        (["create", "nightly", "--from", "1.1.2026"], "is no time"),
        (["list", "nighly"], "did you mean 'nightly'"),
        (["cancel", "abc"], "no such backfill"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str) -> None:
    assert run(["backfill", *arguments]) == 2
    assert hint in capsys.readouterr().err
    assert said(capsys, "list")["backfills"] == []
