"""Shows a running job: a live display on a terminal, elsewhere one log line every ten seconds.

Both are fed with :class:`~streamcore.progress.Progress` and hold no state of the job beyond the last
few snapshots, from which the present rate and the time left follow.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamcore.cli.console import count, duration, err, short, size
from streamcore.progress import OnProgress, Progress, SplitProgress

LOG_EVERY_S = 10.0
RATE_OVER_S = 5.0

log = logging.getLogger("streamcore.progress")


@contextmanager
def watch(topology: str, console: Console | None = None) -> Iterator[OnProgress]:
    """The callback that shows the progress of *topology*'s replay while the block runs."""
    console = console or err()
    if not console.is_terminal:
        yield LogLines(topology)
        return
    view = View(f"replaying {topology}")
    with Live(view.render(Progress()), console=console, auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(view.render(progress), refresh=True)


class Pace:
    """The present rate and the time left, from the snapshots of the last seconds."""

    def __init__(self) -> None:
        self._recent: deque[Progress] = deque()

    def add(self, progress: Progress) -> None:
        self._recent.append(progress)
        while len(self._recent) > 2 and progress.elapsed - self._recent[1].elapsed > RATE_OVER_S:
            self._recent.popleft()

    @property
    def rows_per_second(self) -> float:
        first, last = self._recent[0], self._recent[-1]
        seconds = last.elapsed - first.elapsed
        return (last.rows_in - first.rows_in) / seconds if seconds > 0 else last.rate

    @property
    def seconds_left(self) -> float | None:
        """None while nothing is known: no size, or no headway in the last seconds."""
        first, last = self._recent[0], self._recent[-1]
        if first.fraction is None or last.fraction is None:
            return None
        done, seconds = last.fraction - first.fraction, last.elapsed - first.elapsed
        return (1 - last.fraction) * seconds / done if done > 0 and seconds > 0 else None


class LogLines:
    """One line at once and then every ten seconds."""

    def __init__(self, topology: str) -> None:
        self._topology, self._pace, self._next = topology, Pace(), 0.0

    def __call__(self, progress: Progress) -> None:
        self._pace.add(progress)
        if progress.elapsed < self._next:
            return
        self._next = progress.elapsed + LOG_EVERY_S
        done, left = progress.fraction, self._pace.seconds_left
        fields: dict[str, object] = {
            "topology": self._topology,
            "rows": progress.rows_in,
            "rows_per_second": round(self._pace.rows_per_second),
            "bytes": progress.bytes_in,
            "dead_letters": progress.dead_letters,
        }
        if done is not None:
            fields["done"] = f"{done:.0%}"
        if left is not None:
            fields["left"] = duration(left)
        if progress.rows_left is not None:
            fields["rows_to_do"] = progress.rows_left
        log.info("replaying", extra=fields)


class View:
    """The live display: a bar a stream, then the counters."""

    def __init__(self, title: str) -> None:
        self._title, self._pace = title, Pace()

    def render(self, progress: Progress) -> RenderableType:
        """The display for *progress*."""
        self._pace.add(progress)
        return Group(Text(self._title, style="bold"), self._bars(progress), self._counters(progress))

    def _bars(self, progress: Progress) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, splits in _by_stream(progress.splits).items():
            known = [f for s in splits if (f := s.fraction) is not None]
            done = sum(known) / len(splits) if len(known) == len(splits) else None
            bar = ProgressBar(total=1.0, completed=done or 0.0, width=36, pulse=done is None)
            place = f"{short(sum(s.position for s in splits))} read" if done is None else f"{done:4.0%}"
            parts = "" if len(splits) == 1 else f"{sum(f == 1 for f in known)}/{len(splits)} parts"
            table.add_row(f"  {name}", bar, place, Text(parts, style="dim"))
        return table

    def _counters(self, progress: Progress) -> Table:
        left, dead = self._pace.seconds_left, progress.dead_letters
        ahead = "" if left is None else f"{duration(left)} left"
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"  {count(progress.rows_in)} rows",
            f"{short(self._pace.rows_per_second)} rows/s",
            size(progress.bytes_in),
            Text(f"{count(dead)} dead letters", style="yellow" if dead else "dim"),
            duration(progress.elapsed),
            Text("all read, writing" if progress.fraction == 1 else ahead, style="dim"),
        )
        return table


def _by_stream(splits: tuple[SplitProgress, ...]) -> dict[str, list[SplitProgress]]:
    streams: dict[str, list[SplitProgress]] = {}
    for split in splits:
        streams.setdefault(split.stream, []).append(split)
    return streams
