"""Schedules as they are written: expressions, zones, bounds, daylight saving, mistakes."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from pathlib import Path

import pytest

from streamcore.errors import BadConfig
from streamcore.pipelines.checks import check
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.schedules import NAMES, Schedule, cron_of, local, moment_of, schedule_of, zone_of
from streamcore.pipelines.yaml import errors_in


def shown(cron: str, zone: str, day: str, count: int) -> list[str]:
    """The first firings from *day* on, on the walls of *zone*, with the distance from UTC."""
    info = zone_of(zone)
    after = moment_of(dt.datetime.fromisoformat(day), info) - 1
    found = islice(Schedule("p", cron_of(cron), info).after(after), count)
    return [local(moment, info).strftime("%d %H:%M %z") for moment in found]


@pytest.mark.parametrize(
    ("cron", "zone", "day", "firings"),
    [
        # 02:00 to 03:00 is left out
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29", ["29 03:00 +0200", "29 03:30 +0200"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", ["30 02:00 +0200", "30 02:30 +0200"]),
        ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["29 01:30 +0100", "29 03:30 +0200"]),
        # 02:00 to 03:00 is there twice
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T02:00", ["25 02:00 +0200", "25 02:00 +0100"]),
        ("0 2 * * *", "America/New_York", "2026-03-08", ["08 03:00 -0400", "09 02:00 -0400"]),
        ("0 1 * * *", "America/New_York", "2026-11-01", ["01 01:00 -0400", "02 01:00 -0500"]),
        # by half an hour, where 01:30 to 02:00 is there twice; and at midnight
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["05 01:45 +1100", "06 01:45 +1030"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-24", ["24 01:00 +0300", "25 00:00 +0300"]),
    ],
)  # fmt: skip
def test_changes_of_the_clock(cron: str, zone: str, day: str, firings: list[str]) -> None:
    assert shown(cron, zone, day, len(firings)) == firings


def test_a_half_hours_change_does_not_hide_the_times_after_it() -> None:
    """Cronsim alone leaves out 02:00 to 02:25 there, since it goes on by whole hours."""
    assert shown("*/10 2 * * *", "Australia/Lord_Howe", "2026-04-05", 2) == [
        "05 02:00 +1030",
        "05 02:10 +1030",
    ]


def test_names_stand_for_expressions() -> None:
    assert cron_of("@daily") == "0 0 * * *"
    assert {cron_of(name.upper()) for name in NAMES} == set(NAMES.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 25 * * *", "the hour of this cron expression is wrong.*hour 0-23"),
        ("* * *", "has 5 fields, this has 3"),
        ("0 0 0 * * *", "has 5 fields, this has 6"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 * * 5#2-4", "day-of-week"),
        ("@dayly", "did you mean '@daily'"),
        ("", "has 5 fields"),
    ],
)
def test_what_is_no_expression(text: str, said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        cron_of(text)


@pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "../../etc/passwd", "/etc/passwd", "CEST", ""])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(BadConfig, match="no such time zone"):
        zone_of(name)


def pipeline(**fields: object) -> PipelineConfig:
    task = TaskConfig(task_id="a", task_type=TaskType.EMPTY)
    return PipelineConfig.model_validate({"pipeline_id": "p", "tasks": (task,), **fields})


def test_a_pipelines_schedule() -> None:
    assert schedule_of(pipeline()) is None
    config = pipeline(
        schedule="@daily",
        timezone="Europe/Berlin",
        catchup="all",
        schedule_jitter="5m",
        schedule_from="2026-06-01",
        schedule_until="2026-06-03T00:00:00Z",
    )
    schedule = schedule_of(config)
    assert schedule is not None
    assert (schedule.cron, schedule.catchup, schedule.jitter_us) == ("0 0 * * *", "all", 300_000_000)
    found = [local(at, dt.timezone.utc).isoformat() for at in schedule.after(0)]
    assert found == ["2026-05-31T22:00:00+00:00", "2026-06-01T22:00:00+00:00", "2026-06-02T22:00:00+00:00"]
    again = PipelineConfig.model_validate_json(config.model_dump_json(exclude_defaults=True))
    assert schedule_of(again) == schedule


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule: 0 25 * * *", "3:1: the hour of this cron expression is wrong"),
        ("timezone: Europe/Berln", "3:1: there is no such time zone.*did you mean 'Europe/Berlin'"),
        ("catchup: newest", "3:1: catchup must be one of a few, allowed: none, latest, all"),
        ("schedule_jitter: 2d", "3:1: schedule_jitter: .*less than or equal to 86400"),
        ("schedule_from: soon", "3:1: schedule_from: must be a valid date"),
        ("shedule: '@daily'", "3:1: unknown field 'shedule'.*did you mean 'schedule'"),
    ],
)
def test_mistakes_in_files_have_their_place(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"pipeline_id: p\ntasks: [{{task_id: a, task_type: empty}}]\n{line}\n")
    (error,) = errors_in(file, KINDS)
    with pytest.raises(BadConfig, match=said):
        raise error


def test_an_end_before_the_first_firing_is_refused() -> None:
    bounds = {"schedule_from": "2026-06-01T01:00", "schedule_until": "2026-06-02"}
    with pytest.raises(BadConfig, match="never due before its end"):
        check(pipeline(schedule="@daily", **bounds), KINDS)
    check(pipeline(schedule="@hourly", **bounds), KINDS)
