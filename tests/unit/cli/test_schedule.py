"""``streamcore schedule``: what is due, in which zone, and switching it off and on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore.cli.app import run

FILES = {
    "nightly": "pipeline_id: nightly\nschedule: 30 2 * * *\ntimezone: Europe/Berlin\ncatchup: all\n",
    "often": "pipeline_id: often\nschedule: '0 */6 * * *'\nschedule_jitter: 5m\n",
    "asked": "pipeline_id: asked\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/pipelines").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / f"config/pipelines/{name}.yaml").write_text(
            f"{text}tasks: [{{task_id: a, task_type: empty}}]\n"
        )
    assert run(["pipeline", "register"]) == 0


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run(["schedule", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_next_firings_are_shown_in_both_times(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "next", "nightly", "--count", "3", "--from", "2026-03-28")["firings"]
    assert found == [
        {"pipeline_id": "nightly", "local": local, "utc": utc}
        for local, utc in (
            ("2026-03-28T02:30:00+01:00", "2026-03-28T01:30:00+00:00"),
            ("2026-03-29T03:00:00+02:00", "2026-03-29T01:00:00+00:00"),
            ("2026-03-30T02:30:00+02:00", "2026-03-30T00:30:00+00:00"),
        )
    ]


def test_firings_of_all_are_merged_and_say_when_they_start(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "next", "--count", "5", "--from", "2026-01-01T00:00Z")["firings"]
    assert [row["pipeline_id"] for row in found] == ["nightly", "often", "often", "often", "often"]
    assert [row["utc"] for row in found] == sorted(row["utc"] for row in found)
    assert "starts" not in found[0]
    assert all(row["utc"] <= row["starts"] <= row["utc"].replace(":00:00+", ":05:00+") for row in found[1:])


def test_a_file_needs_no_registration(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.yaml").write_text(
        "pipeline_id: new\nschedule: '@daily'\ntasks: [{task_id: a, task_type: empty}]\n"
    )
    assert len(said(capsys, "next", "new.yaml")["firings"]) == 10


def test_pausing_and_resuming(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "pause", "nightly", "often")["pipelines"] == [
        {"pipeline_id": "nightly", "paused": True, "changed": True, "catchup": "all"},
        {"pipeline_id": "often", "paused": True, "changed": True, "catchup": "latest"},
    ]
    assert not said(capsys, "pause", "often")["pipelines"][0]["changed"]
    listed = said(capsys, "list")["schedules"]
    assert [(row["pipeline_id"], row["next"]) for row in listed] == [("nightly", None), ("often", None)]
    assert all(row["paused"] for row in listed)
    assert said(capsys, "next")["firings"] == []
    assert said(capsys, "resume", "nightly")["pipelines"][0]["changed"]
    (nightly, often) = said(capsys, "list")["schedules"]
    assert nightly["next"]
    assert nightly["paused"] is None
    assert often["paused"]
    assert run(["schedule", "resume", "often"]) == 0
    assert "often runs by its schedule; of what it missed it makes up for: latest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["pause", "nihtly"], "did you mean 'nightly'"),
        (["next", "oftn"], "did you mean 'often'"),
        (["pause", "nightly", "asked"], "'asked' has no schedule"),
        (["next", "asked"], "has no schedule"),
        (["next", "often", "--from", "soon"], "is no time"),
        (["nxt"], "did you mean 'next'"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str) -> None:
    assert run(["schedule", *arguments]) == 2
    assert hint in capsys.readouterr().err
    assert [row["paused"] for row in said(capsys, "list")["schedules"]] == [None, None]


def test_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedule", "list"]) == 0
    assert "Europe/Berlin" in capsys.readouterr().out
    assert run(["schedule", "next", "often"]) == 0
    assert "starts" in capsys.readouterr().out
