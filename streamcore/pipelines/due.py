"""What a pipeline's schedule asks for now: a pure function of its versions, what is dealt with, and the time.

All firings up to a *position* are dealt with: run, or left out by the catch-up policy. The scheduler asks
:func:`due`, makes the runs, and then stores the new position; whoever does so again from the old position
finds the same firings, and their unique rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from streamcore.pipelines.schedules import Schedule

GRACE = 60_000_000
"""So late, in microseconds, a firing is not yet missed: leaders change and processes start in that time."""


@dataclass(frozen=True, slots=True)
class Period:
    """The schedule of one version, in force from its registration until that of the next."""

    from_us: int
    schedule: Schedule | None


@dataclass(frozen=True, slots=True)
class Due:
    """``firings`` are to be run, in this order; then all up to ``position`` are dealt with.

    ``left_out`` is the first firing that will not be run. ``wake``: nothing more is due before it; None:
    never, as the versions are.
    """

    firings: tuple[int, ...]
    position: int
    left_out: int | None = None
    wake: int | None = None


def due(periods: Sequence[Period], position: int, now: int, most: int) -> Due:
    """What is due at *now*, *most* firings at once. The last of *periods* is the newest version.

    Its policy counts for all that was missed, also by the schedules of versions before it.
    """
    newest = periods[-1]
    if newest.from_us > now:  # registered before the clock was put back
        periods = [Period(position, newest.schedule)]
    schedule = newest.schedule
    if schedule is None:
        return Due((), max(position, newest.from_us))
    last = _last_ready(periods, position, now)
    if last is None:
        return Due((), position, None, _wake(schedule, max(position, periods[-1].from_us)))
    if schedule.catchup == "all":
        chosen = [firing for firing, _ in islice(_firings(periods, position, last), most)]
    elif schedule.catchup == "latest":
        chosen = [last]
    else:
        longest = max(period.schedule.jitter_us for period in periods if period.schedule is not None)
        recent = _firings(periods, max(position, now - GRACE - longest), last)
        chosen = [firing for firing, by in recent if by.start_of(firing) >= now - GRACE]
    first, _ = next(_firings(periods, position, last))
    done = chosen[-1] if chosen else last
    wake = now if done < last else _wake(schedule, max(done, periods[-1].from_us))
    return Due(tuple(chosen), done, None if first in chosen[:1] else first, wake)


def _firings(periods: Sequence[Period], after: int, upto: int) -> Iterator[tuple[int, Schedule]]:
    """The firings in the range, each of the schedule that was in force."""
    ends = [period.from_us for period in periods[1:]]
    for period, end in zip(periods, [*ends, upto], strict=True):
        if period.schedule is not None:
            for firing in period.schedule.between(max(after, period.from_us), min(end, upto)):
                yield firing, period.schedule


def _last_ready(periods: Sequence[Period], after: int, now: int) -> int | None:
    """The last firing whose jitter is over too: at most one of each schedule waits for that."""
    end = now
    for period in reversed(periods):
        begin = max(after, period.from_us)
        if (schedule := period.schedule) is not None and begin < end:
            last = schedule.latest(begin, end)
            if last is not None and schedule.start_of(last) > now:
                last = schedule.latest(begin, last - 1)
            if last is not None:
                return last
        end = min(end, period.from_us)
    return None


def _wake(schedule: Schedule, after: int) -> int | None:
    following = next(schedule.after(after), None)
    return None if following is None else schedule.start_of(following)
