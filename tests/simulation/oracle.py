"""What must come out, from the records as they lie in the sources: plain Python, one row at a time.

It shares no code with streamcore's operators, and knows no batches, logs, workers or faults.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from tests.simulation.feed import LATENESS, Feed

Document = dict[str, Any]
NEVER = 1 << 62
"""The time behind the last row of a partition that has ended."""
MOST = 1_000
"""``n`` above it breaks the rule."""
DAY = 86_400_000


class Letter(NamedTuple):
    """A dead letter: which row, and the stage that refused it."""

    stage: str
    stream: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Row:
    """A row that was decoded. ``timeless``, ``future``, ``late``: what windows and joins make of it."""

    stream: str
    partition: int
    offset: int
    document: Document
    late: bool = False
    future: bool = False

    @property
    def time(self) -> int | None:
        found: int | None = self.document["at" if self.stream == "rows" else "oat"]
        return found


@dataclass
class Judged:
    """The rows of all partitions that passed the rules, in order; the least watermark; dead letters."""

    rows: list[Row] = field(default_factory=list)
    letters: set[Letter] = field(default_factory=set)
    counted: dict[str, int] = field(default_factory=dict)
    """How many dead letters a stage behind a state has; where they stand is a matter of its log."""
    watermarks: dict[str, int] = field(default_factory=dict)
    """By stream: that of the partition that is farthest behind."""
    newest: dict[str, int] = field(default_factory=dict)
    """By stream: that of the partition that is farthest ahead, before its end."""

    def of(self, stream: str) -> list[Row]:
        return [row for row in self.rows if row.stream == stream]


def judged(feed: Feed) -> Judged:
    """Every record of *feed*, judged row by row in the order of its partition."""
    found = Judged()
    for stream, partitions in feed.partitions.items():
        ends, reached = [], [-NEVER]
        for number, records in enumerate(partitions):
            watermark = -NEVER
            for offset, record in enumerate(records):
                if offset in feed.markers.get((stream, number), ()):
                    continue
                letter = Letter("", stream, number, offset)
                stage, document = _read(record.value, stream)
                if stage:
                    found.letters.add(letter._replace(stage=stage))
                    continue
                row = Row(stream, number, offset, document)
                if (time := row.time) is not None and time > record.stamp + DAY:
                    row = Row(stream, number, offset, document, future=True)
                elif time is not None:
                    row = Row(stream, number, offset, document, late=time < watermark)
                    watermark = max(watermark, time - LATENESS)
                if stream == "rows" and document["n"] > MOST:
                    found.letters.add(letter._replace(stage="limit"))
                else:
                    found.rows.append(row)
            if records:  # a partition without rows is idle
                ends.append(NEVER if feed.ended else watermark)
                reached.append(watermark)
        found.watermarks[stream], found.newest[stream] = min(ends, default=NEVER), max(reached)
    return found


def _read(value: bytes, stream: str) -> tuple[str, Document]:
    try:
        document = orjson.loads(value)
    except ValueError:
        return "decode", {}
    if not isinstance(document, dict):
        return "schema", {}
    number = document["n" if stream == "rows" else "m"]
    return ("schema", {}) if number < 0 else ("", document)


def timely(judged: Judged, rows: Iterable[Row], stage: str) -> list[Row]:
    """The *rows* that windows and joins take; those without a usable time become letters of *stage*."""
    kept = []
    for row in rows:
        if row.time is None or row.future:
            judged.letters.add(Letter(stage, row.stream, row.partition, row.offset))
        elif not row.late:
            kept.append(row)
    return kept


Aggregates = Callable[[Sequence[Document]], Document]


def windows(
    rows: Iterable[Row], starts: Callable[[int], Iterable[int]], size: int, aggregates: Aggregates
) -> dict[tuple[Any, int, int], Document]:
    """(shop, start, end) to aggregates, of aligned windows, whether closed or not."""
    held: dict[tuple[Any, int, int], list[Document]] = defaultdict(list)
    for row in rows:
        assert row.time is not None
        for start in starts(row.time):
            held[row.document["shop"], start, start + size].append(row.document)
    return {window: aggregates(found) for window, found in held.items()}


def sessions(rows: Iterable[Row], gap: int, aggregates: Aggregates) -> dict[tuple[Any, int, int], Document]:
    """(shop, first, last + gap) to aggregates."""
    by_shop: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        by_shop[row.document["shop"]].append(row)
    found = {}
    for shop, held in by_shop.items():
        held.sort(key=lambda row: row.time or 0)
        while held:
            session = [held.pop(0)]
            while held and (held[0].time or 0) - (session[-1].time or 0) <= gap:
                session.append(held.pop(0))
            key = shop, session[0].time or 0, (session[-1].time or 0) + gap
            found[key] = aggregates([row.document for row in session])
    return found


def living(judged: Judged, rows: Iterable[Row], by: str, ttl: int, *, apart: int) -> dict[Any, list[Row]]:
    """Value of *by* to the rows of its newest life, by their times; rows up to *apart* milliseconds apart are
    of one. A life that time has passed by *ttl*, to a sixteenth of it, is over."""
    held: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        held[row.document[by]].append(row)
    least, newest = judged.watermarks["rows"], judged.newest["rows"]
    limit = ((newest if least == NEVER else least) - ttl) * 1_000
    limit -= limit % (ttl * 1_000 // 16)
    found = {}
    for key, own in held.items():
        own.sort(key=lambda row: row.time or 0)
        life = [own.pop()]
        while own and (life[0].time or 0) - (own[-1].time or 0) <= apart:
            life.insert(0, own.pop())
        if (life[-1].time or 0) * 1_000 >= limit:
            found[key] = life
    return found


def pairs(
    left: Sequence[Row], right: Sequence[Row], low: int, high: int
) -> tuple[list[tuple[Row, Row]], list[Row]]:
    """Pairs of one key whose times differ by *low* to *high*, and the left rows that are in none."""
    found, alone = [], []
    for a in left:
        mates = [
            (a, b)
            for b in right
            if a.document["key"] == b.document["key"] and low <= (b.time or 0) - (a.time or 0) <= high
        ]
        found += mates
        if not mates:
            alone.append(a)
    return found, alone


def newest(row: Row, others: Sequence[Row]) -> Row | None:
    """Of *others* with the key of *row* the newest that is not newer; of several the last."""
    found = None
    for other in others:
        before = (other.time or 0) <= (row.time or 0) and other.document["key"] == row.document["key"]
        if before and (found is None or (other.time or 0) >= (found.time or 0)):
            found = other
    return found


def grouped(rows: Iterable[Row], by: str, aggregates: Aggregates) -> dict[Any, Document]:
    """Value of *by* to aggregates."""
    held: dict[Any, list[Document]] = defaultdict(list)
    for row in rows:
        held[row.document[by]].append(row.document)
    return {key: aggregates(found) for key, found in held.items()}


def last_changes(key: str, rows: Sequence[Document]) -> list[Document]:
    """The table of which *rows* are updates: the last one of each key, by its number."""
    last: dict[object, Document] = {}
    for row in rows:
        if row["number"] >= last.get(row[key], row)["number"]:
            last[row[key]] = row
    return [_unchanged(row) for row in last.values() if row["op"] == "upsert"]


def added_up(rows: Sequence[Document]) -> list[Document]:
    """What *rows* put there less what they take back."""
    there: Counter[tuple[tuple[str, object], ...]] = Counter()
    for row in rows:
        there[frozen(_unchanged(row))] += 1 if row["op"] in ("insert", "update_after") else -1
    return [dict(row) for row, times in there.items() for _ in range(abs(times))]


def _unchanged(row: Document) -> Document:
    return {name: value for name, value in row.items() if name not in ("op", "number")}


def frozen(row: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """A row that can be counted."""
    return tuple(sorted((name, _plain(value)) for name, value in row.items()))


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def difference(
    what: str, wanted: Sequence[Mapping[str, object]], found: Sequence[Mapping[str, object]]
) -> str:
    """What is wrong with *found*, in words; empty when nothing is."""
    lost = Counter(map(frozen, wanted))
    more = Counter(map(frozen, found))
    missing, extra = lost - more, more - lost
    told = [
        f"{sum(rows.values())} {name} (e.g. {dict(min(rows, key=repr))})"
        for name, rows in (("missing", missing), ("too many", extra))
        if rows
    ]
    return f"{what}: {len(wanted)} rows wanted, {', '.join(told)}" if told else ""
