"""What must come out of the windows of a fault run, from the rows as they lie in the log, in plain Python.

It knows nothing of streamcore: lateness is judged row by row in the order of each partition, and a window
is what a dictionary holds under (shop, start).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from tests.faults.journal import difference

SIZE, SPAN, LATENESS = 1_000, 10_000, 10_000
"""Milliseconds, as tests/faults/window_topology.py declares them."""
ENDED = 1 << 62
"""The time behind the last row of a partition that has ended."""

Window = tuple[str | None, int]
"""Shop and start."""


class Fed(NamedTuple):
    """A row that a window may hold, with its time in milliseconds."""

    id: str
    at: int
    shop: str | None
    n: int

    @classmethod
    def of(cls, value: bytes) -> Fed:
        """The row in *value*."""
        document = orjson.loads(value)
        return cls(document["id"], document["at"], document["shop"], document["n"])


class Seen(NamedTuple):
    """What is there, in the order in which it came: windows as (shop, start, end, values…)."""

    shops: Sequence[tuple[str | None, int, int, int, int]]
    spans: Sequence[tuple[int, int, int, int]]
    late: Sequence[str]


@dataclass
class Expected:
    """What must be there: (rows, sum) of each window of a shop, (windows, rows) of each span, late rows."""

    shops: dict[Window, tuple[int, int]] = field(default_factory=dict)
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)

    def broken(self, seen: Seen, *, whole: bool = True) -> list[str]:
        """The promises that *seen* breaks; unless it is the *whole*, more may come."""
        shops = [((shop, start), (counted, total)) for shop, start, _, counted, total in seen.shops]
        spans = [(start, (windows, counted)) for start, _, windows, counted in seen.spans]
        bounds = [row for row in seen.shops if row[2] - row[1] != SIZE]
        bounds += [(None, *row) for row in seen.spans if row[1] - row[0] != SPAN]
        told = [
            difference("windows", self.shops, shops, whole=whole),
            difference("spans", self.spans, spans, whole=whole),
            difference("late rows", dict.fromkeys(self.late), [(id, None) for id in seen.late], whole=whole),
            f"{len(bounds)} windows end elsewhere (e.g. {bounds[0]})" if bounds else "",
            _disordered(seen),
        ]
        return [text for text in told if text]


def expected(partitions: Iterable[Sequence[Fed]], *, ended: bool = False) -> Expected:
    """What must come out of the rows of *partitions*; *ended*: nothing follows them."""
    windows: dict[Window, tuple[int, int]] = defaultdict(lambda: (0, 0))
    found, watermarks = Expected(), []
    for rows in partitions:
        watermark = -ENDED
        for row in rows:
            if row.at < watermark:
                found.late.add(row.id)
            else:
                window = row.shop, row.at // SIZE * SIZE
                counted, total = windows[window]
                windows[window] = counted + 1, total + row.n
            watermark = max(watermark, row.at - LATENESS)
        watermarks.append(ENDED if ended else watermark)
    least = min(watermarks)
    found.shops = {window: value for window, value in windows.items() if window[1] + SIZE <= least}
    for (_, start), (counted, _) in found.shops.items():
        span = start // SPAN * SPAN
        if span + SPAN <= least:
            before = found.spans.get(span, (0, 0))
            found.spans[span] = before[0] + 1, before[1] + counted
    return found


def _disordered(seen: Seen) -> str:
    """The windows of a shop come in the order of their times: they are in one partition of the log."""
    latest: dict[str | None, int] = {}
    wrong = []
    for shop, start, *_ in seen.shops:
        if start < latest.get(shop, start):
            wrong.append((shop, start))
        latest[shop] = start
    return f"{len(wrong)} windows came after a later one of their shop (e.g. {wrong[0]})" if wrong else ""
