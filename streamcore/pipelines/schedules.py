"""When pipelines are due: cron expressions in a time zone. Pure: no clock, no store, no random numbers.

A *firing* is a moment that a schedule names, in whole microseconds since 1970 in UTC; it is what a run is
known by, whatever happens to clocks. Cronsim walks the times on the wall; this module knows which moments
they are, by the rules of Debian's cron:

==========================  ============================================================================
a schedule of fixed times   neither minute nor hour begins with ``*``. A time that the change to summer
                            time leaves out is the first moment after it; one that exists twice is the
                            first of the two. So a job at 02:30 runs once each day
a schedule that goes on     minute or hour begins with ``*``. Every moment at which the wall shows a time
                            of it: none in an hour that is left out, two in an hour that exists twice
==========================  ============================================================================

Cronsim has the same rules but takes changes of less than an hour, and those at midnight, for something
else; a slow model in ``tests/property/test_schedules_law.py`` is what both are held against.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import heapq
import zoneinfo
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from cronsim import CronSim, CronSimError

from streamcore.errors import BadConfig, did_you_mean

if TYPE_CHECKING:
    from streamcore.pipelines.models import PipelineConfig

Catchup: TypeAlias = Literal["none", "latest", "all"]
"""Which firings are made up for that nobody was there for."""
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = {
    "minute": "minute 0-59",
    "hour": "hour 0-23",
    "day-of-month": "day of the month 1-31, L (the last), LW (the last weekday)",
    "month": "month 1-12 or JAN-DEC",
    "day-of-week": "day of the week 0-7 or SUN-SAT, 5L (the last Friday), 5#2 (the second Friday)",
}
_UTC = dt.timezone.utc
_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class Schedule:
    """When a pipeline is due. ``cron`` has five fields; firings are from ``from_us`` on, before ``until_us``.

    ``jitter_us``: a firing begins so much later at most, see :meth:`start_of`.
    """

    pipeline_id: str
    cron: str
    zone: zoneinfo.ZoneInfo
    catchup: Catchup = "latest"
    jitter_us: int = 0
    from_us: int | None = None
    until_us: int | None = None

    @property
    def fixed(self) -> bool:
        """Whether it names fixed times of the day, see the module."""
        minute, hour, *_ = self.cron.split()
        return not (minute.startswith("*") or hour.startswith("*"))

    def after(self, moment: int) -> Iterator[int]:
        """All firings later than *moment*, in order; for ever, if the schedule has no end."""
        last = moment if self.from_us is None else max(moment, self.from_us - 1)
        walls = CronSim(self.cron, _start(last, self.zone))
        found = _once(walls, self.zone) if self.fixed else _each(walls, self.zone)
        try:
            for firing in found:
                if self.until_us is not None and firing >= self.until_us:
                    return
                if firing > last:
                    last = firing
                    yield firing
        except OverflowError:  # the year 10000
            return

    def between(self, after: int, upto: int) -> Iterator[int]:
        """The firings later than *after*, up to *upto* and with it."""
        for firing in self.after(after):
            if firing > upto:
                return
            yield firing

    def latest(self, after: int, upto: int) -> int | None:
        """The last of :meth:`between`, without walking through all of them."""
        span = 60 * MINUTE
        while True:
            begin = max(after, upto - span)
            found = deque(self.between(begin, upto), maxlen=1)
            if found or begin == after:
                return found[0] if found else None
            span *= 8

    def start_of(self, firing: int) -> int:
        """When the run of *firing* begins: a part of the jitter later that is the same each time.

        It never begins later than the next firing is due, so runs keep their order.
        """
        if not self.jitter_us:
            return firing
        following = next(self.after(firing), None)
        most = self.jitter_us if following is None else min(self.jitter_us, following - firing)
        drawn = hashlib.sha256(f"{self.pipeline_id}/{firing}".encode()).digest()[:8]
        return firing + most * int.from_bytes(drawn, "big") // 2**64


def schedule_of(config: PipelineConfig) -> Schedule | None:
    """The schedule of a pipeline; None when it runs only on demand. BadConfig as of the functions below."""
    if config.schedule is None:
        return None
    zone = zone_of(config.timezone)
    begin, end = (
        None if at is None else moment_of(at, zone) for at in (config.schedule_from, config.schedule_until)
    )
    jitter = round(config.schedule_jitter * 1e6)
    return Schedule(config.pipeline_id, cron_of(config.schedule), zone, config.catchup, jitter, begin, end)


def cron_of(text: str) -> str:
    """*text* as a cron expression of five fields, names such as ``@daily`` included; BadConfig if it is none.

    Names of days and months are upper case in the answer.
    """
    words = text.upper().split()
    if len(words) == 1 and words[0].startswith("@"):
        if (name := words[0].lower()) in NAMES:
            return NAMES[name]
        raise BadConfig(
            "no schedule has this name", got=text, allowed=list(NAMES), fix=did_you_mean(name, NAMES)
        )
    if len(words) != len(_FIELDS):
        raise BadConfig(
            f"a cron expression has 5 fields, this has {len(words)}",
            got=text,
            allowed=list(_FIELDS.values()),
            fix="write minute, hour, day, month, weekday, as in '0 */6 * * *'",
        )
    cron = " ".join(words)
    try:
        first = next(CronSim(cron, dt.datetime(2000, 1, 1)), None)
    except (CronSimError, AssertionError, TypeError) as error:  # the latter two: `L-3`, `5#2-4`
        field = str(error).removeprefix("Bad ")
        raise BadConfig(
            f"the {field} of this cron expression is wrong" if field in _FIELDS else "no cron expression",
            got=text,
            allowed=[_FIELDS[field]] if field in _FIELDS else list(_FIELDS.values()),
            fix="lists (1,15), ranges (1-5) and steps (*/10) may stand in each field",
        ) from None
    if first is None:
        raise BadConfig("this schedule is never due", got=text, fix="name a day that its months have")
    return cron


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """The time zone *name* of the IANA's list; BadConfig when there is no such zone."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Europe`, a folder
        hint = did_you_mean(name, zoneinfo.available_timezones())
        raise BadConfig(
            "there is no such time zone",
            got=name,
            allowed=["UTC", "Europe/Berlin", "America/New_York", "…"],
            fix=hint or "take a name of the IANA's list, as Region/City",
        ) from None


def moment_of(at: dt.datetime, zone: dt.tzinfo) -> int:
    """The moment of *at*, which is a time on the walls of *zone* when it names none itself."""
    return _moment(at if at.tzinfo is not None else at.replace(tzinfo=zone))


def local(moment: int, zone: dt.tzinfo) -> dt.datetime:
    """What the walls of *zone* show at *moment*."""
    return (_EPOCH + moment * _MICROSECOND).replace(tzinfo=_UTC).astimezone(zone)


def _moment(at: dt.datetime) -> int:
    return (at.astimezone(_UTC).replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def _start(moment: int, zone: dt.tzinfo) -> dt.datetime:
    """From where on the wall the times after *moment* are found.

    Where the clock is put back within a day, that is as much earlier as it is put back.
    """
    at = local(moment, zone)
    later = local(moment + DAY, zone)
    back = (at.utcoffset() or dt.timedelta()) - (later.utcoffset() or dt.timedelta())
    return at.replace(tzinfo=None) - max(back, dt.timedelta())


def _once(walls: Iterator[dt.datetime], zone: dt.tzinfo) -> Iterator[int]:
    """Each wall time once: the first of two, or the first moment after it when it is left out."""
    for wall in walls:
        while not (passes := _passes(wall, zone)):
            wall += dt.timedelta(minutes=1)
        yield passes[0]


def _each(walls: Iterator[dt.datetime], zone: dt.tzinfo) -> Iterator[int]:
    """Every moment that shows one of *walls*, in the order of moments."""
    second: list[int] = []  # passes of an hour that exists twice, until the first ones are through
    for wall in walls:
        passes = _passes(wall, zone)
        while passes and second and second[0] < passes[0]:
            yield heapq.heappop(second)
        yield from passes[:1]
        for moment in passes[1:]:
            heapq.heappush(second, moment)
    yield from sorted(second)


def _passes(wall: dt.datetime, zone: dt.tzinfo) -> list[int]:
    """The moments at which the walls of *zone* show *wall*: one, two where the clock is put back, or none."""
    found = []
    for fold in (0, 1):
        moment = _moment(wall.replace(tzinfo=zone, fold=fold))
        if moment not in found and local(moment, zone).replace(tzinfo=None, fold=0) == wall:
            found.append(moment)
    return found
