"""Firings are what a slow model finds that walks minute by minute and reads the wall.

The model parses expressions itself and knows nothing of cronsim: a minute is a firing of a schedule that goes
on when its wall matches; of one with fixed times when its wall matches and was not shown before, or when it
is the first after a gap that holds a time that matches.
"""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from dataclasses import replace
from itertools import islice

from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streamcore.pipelines.schedules import DAY, MINUTE, Schedule, local, moment_of, zone_of

HALF_HOUR = "Australia/Lord_Howe"
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Africa/Cairo",  # at midnight
    "America/Santiago",
    "Africa/Casablanca",
    "Antarctica/Troll",  # by two hours
    "Pacific/Apia",  # a day that is left out
    "America/Havana",
    "Asia/Kathmandu",
    "UTC",
    HALF_HOUR,
]
RANGES = [range(60), range(24), range(1, 32), range(1, 13), range(7)]


@functools.cache
def changes(zone: str) -> list[int]:
    """The days from 2010 to 2030 after which the walls of *zone* are another time from UTC."""
    info, first, last = zone_of(zone), 14610, 21915
    offsets = [local(day * DAY, info).utcoffset() for day in range(first, last)]
    return [first + n for n in range(len(offsets) - 1) if offsets[n] != offsets[n + 1]] or [20000]


def field(place: int) -> st.SearchStrategy[str]:
    low, high = RANGES[place][0], RANGES[place][-1]
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.lists(number, min_size=1, max_size=3).map(lambda found: ",".join(map(str, found))),
        st.integers(1, 12).map(lambda step: f"*/{step}"),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    )


hours = st.one_of(field(1), st.sampled_from(["0", "1", "2", "3", "1,2", "0-3", "2,3", "*/2", "23"]))
crons = st.tuples(
    field(0), hours, st.one_of(st.just("*"), field(2)), st.just("*"), st.one_of(st.just("*"), field(4))
).map(" ".join)


def matches(cron: str, wall: dt.datetime) -> bool:
    """By hand: days and weekdays must both match when one of them begins with a star, else one of them."""
    minute, hour, day, month, weekday = cron.split()
    in_day = _in(day, wall.day, 2)
    in_week = _in(weekday, wall.isoweekday() % 7, 4)
    star = day.startswith("*") or weekday.startswith("*")
    days = in_day and in_week if star else in_day or in_week
    return days and _in(minute, wall.minute, 0) and _in(hour, wall.hour, 1) and _in(month, wall.month, 3)


def _in(text: str, value: int, place: int) -> bool:
    for part in text.split(","):
        base, _, step = part.partition("/")
        low, _, high = base.partition("-")
        numbers = RANGES[place] if base == "*" else range(int(low), int(high or low) + 1)
        if value in list(numbers)[:: int(step or 1)]:
            return True
    return False


def model(cron: str, zone: zoneinfo.ZoneInfo, after: int, upto: int) -> list[int]:
    fixed = not any(part.startswith("*") for part in cron.split()[:2])
    found = []
    for moment in range((after // MINUTE + 1) * MINUTE, upto + 1, MINUTE):
        at = local(moment, zone)
        wall, before = at.replace(tzinfo=None, fold=0), local(moment - MINUTE, zone).replace(tzinfo=None)
        step = dt.timedelta(minutes=1)
        skipped = before + step
        due = matches(cron, wall) and not (fixed and at.fold)
        while fixed and skipped < wall:
            due = due or matches(cron, skipped)
            skipped += step
        if due:
            found.append(moment)
    return found


@settings(deadline=None)
@given(crons, st.sampled_from(ZONES), st.integers(0, 100), st.integers(-DAY, DAY), st.integers(0, 2 * DAY))
@example("30 2 * * *", "Europe/Berlin", 0, 0, 2 * DAY)
@example("*/5 2 * * *", HALF_HOUR, 0, 0, 2 * DAY)
@example("*/5 1 * * *", HALF_HOUR, 1, 0, 2 * DAY)
@example("0 0 * * *", "Africa/Cairo", 0, 0, 2 * DAY)
@example("0 12 30 * *", "Pacific/Apia", 4, -DAY, 2 * DAY)
def test_firings_are_those_of_the_walk(cron: str, name: str, change: int, begin: int, length: int) -> None:
    zone = zone_of(name)
    day = changes(name)[change % len(changes(name))]
    after = day * DAY + begin
    schedule = Schedule("p", cron, zone)
    found = list(schedule.between(after, after + length))
    assert found == model(cron, zone, after, after + length)
    assert schedule.latest(after, after + length) == (found[-1] if found else None)


@settings(deadline=None)
@given(crons, st.sampled_from([z for z in ZONES if z not in (HALF_HOUR, "Africa/Cairo")]), st.data())
def test_where_clocks_move_by_hours_cronsim_says_the_same(cron: str, name: str, data: st.DataObject) -> None:
    """Cronsim's own rules, which are Debian's; it gives a time that is left out and the next one twice."""
    zone = zone_of(name)
    after = data.draw(st.sampled_from(changes(name))) * DAY
    begin = local(after, zone)
    assume(not begin.fold)
    theirs = [moment_of(at, zone) for at in islice(CronSim(cron, begin), 30)]
    upto = after + 3 * DAY
    expected = sorted({at for at in theirs if at <= upto})
    assert list(islice(Schedule("p", cron, zone).between(after, upto), len(expected))) == expected


@given(crons, st.integers(0, DAY * 365), st.integers(1, DAY), st.integers(1, 30))
def test_jitter_keeps_the_order_and_is_the_same_each_time(
    cron: str, after: int, jitter: int, count: int
) -> None:
    schedule = Schedule("p", cron, zone_of("UTC"), jitter_us=jitter)
    firings = list(islice(schedule.after(after), count + 1))
    assume(len(firings) > 1)
    starts = [schedule.start_of(firing) for firing in firings[:-1]]
    for firing, following, start in zip(firings, firings[1:], starts, strict=False):
        assert firing <= start < min(firing + jitter, following)
        assert start == replace(schedule).start_of(firing)


@given(crons, st.integers(0, DAY * 365), st.integers(0, 5), st.integers(0, 5))
def test_bounds_cut_and_change_nothing_else(cron: str, after: int, begin: int, end: int) -> None:
    free = Schedule("p", cron, zone_of("UTC"))
    firings = list(islice(free.after(after), 12))
    assume(len(firings) == 12)
    bound = replace(free, from_us=firings[begin], until_us=firings[begin + end])
    assert list(bound.after(after)) == firings[begin : begin + end]
