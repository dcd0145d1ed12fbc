"""Marks of rows of JSON: which rows of an answer are new, and from where on to ask next. Pure.

A mark is a member of a row that grows with each change: a time (``updated_at``) or a number (an id, a
version). Rows come late, clocks differ, and servers take "since" as "from" or as "behind". So it is asked
from a lag behind the highest mark on, and what was read before is known by a hash of its bytes. A round is
all pages of one question.
"""

from __future__ import annotations

import base64
import hashlib
import operator
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import AfterValidator, TypeAdapter, ValidationError

from streamcore.durations import duration
from streamcore.errors import Permanent

Order: TypeAlias = "float | Decimal | datetime | str"
Value: TypeAlias = "float | str"
_DIGEST = 8
_TIMES = TypeAdapter(datetime)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_DATE = len("2026-11-29")
MOST_KNOWN = 40_000
"""Hashes that a bookmark holds: on Kafka there is no room for more."""


class Mark(NamedTuple):
    """A mark: the ``value`` in the row, and what it is compared by; times without a zone are UTC."""

    value: Value
    order: Order


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind the highest mark to ask: ``time`` for times, ``number`` for numbers."""

    time: timedelta = timedelta(minutes=1)
    number: float = 0

    @classmethod
    def of(cls, text: str | None) -> Lag:
        """What the option says; BadConfig when it is no duration and no number."""
        if text is None:
            return cls()
        if text.replace(".", "", 1).isdigit():
            return cls(timedelta(0), float(text) if "." in text else int(text))
        return cls(duration(text))

    def behind(self, mark: Mark) -> Mark:
        """The mark to ask from, written as *mark* is."""
        if isinstance(mark.order, datetime) and self.time:
            return _time(str(mark.value), mark.order - self.time)
        if isinstance(mark.order, Decimal) and self.number:
            exact = mark.order - Decimal(str(self.number))
            return Mark(f"{exact:f}", exact)
        if isinstance(mark.order, (int, float)) and self.number:
            order = mark.order - self.number
            return Mark(str(order) if isinstance(mark.value, str) else order, order)
        return mark


def _checked(text: str) -> str:
    Lag.of(text)
    return text


LagText: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""An option that is a lag, as text; BadConfig for what is none."""


def _time(like: str, order: datetime) -> Mark:
    """The time *order*, written as *like* is: a date, or with the same zone."""
    if len(like) == _DATE:
        text = order.date().isoformat()
        return mark_of(text, like)
    zone = _TIMES.validate_python(like).tzinfo
    text = (order.replace(tzinfo=None) if zone is None else order.astimezone(zone)).isoformat()
    return Mark(text.replace("+00:00", "Z") if like.endswith("Z") else text, order)


def mark_of(value: object, where: str) -> Mark:
    """The mark that a row holds; Permanent when it is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Mark(value, value)
    if not isinstance(value, str) or not value:
        raise Permanent(
            "a row has no mark, or one that is no text and no number",
            where=where,
            got=type(value).__name__,
            fix="name as the mark a member that each row has and that grows with each change",
        )
    if _NUMBER.fullmatch(value):  # before times: a number is also one, of seconds
        return Mark(value, Decimal(value) if "." in value else int(value))
    try:
        found = _TIMES.validate_python(value)
    except ValidationError:
        return Mark(value, value)
    return Mark(value, found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc))


@dataclass(slots=True)
class Seen:
    """What was read. ``since``: where the round began; ``top``: the highest mark.

    Hashes of rows that may come again, with their marks: ``before`` of earlier rounds, ``fresh`` of this one.
    """

    lag: Lag
    where: str
    since: Mark | None = None
    top: Mark | None = None
    before: dict[bytes, Order] = field(default_factory=dict)
    fresh: dict[bytes, Order] = field(default_factory=dict)

    def is_new(self, row: bytes, value: object) -> bool:
        """Whether *row*, whose mark is *value*, was not read yet; now it is."""
        mark = mark_of(value, self.where)
        if self.since is not None and self._below(mark.order, self.since.order):
            return False  # the server gives more than it is asked for
        digest = hashlib.blake2b(row, digest_size=_DIGEST).digest()
        if digest in self.before or digest in self.fresh:
            return False
        self.fresh[digest] = mark.order
        if self.top is None or self._below(self.top.order, mark.order):
            self.top = mark
        return True

    @property
    def too_many(self) -> bool:
        """Whether a bookmark has no room for all that is known."""
        return len(self.fresh) + len(self.before) > MOST_KNOWN

    def turn(self) -> None:
        """Behind a page. Of its rows those below the lag will not be asked for again."""
        if self.top is None:
            return
        low = self.lag.behind(self.top).order
        self.fresh = {digest: order for digest, order in self.fresh.items() if not self._below(order, low)}
        if self.too_many:
            raise Permanent(
                "too many rows have marks within the lag",
                where=self.where,
                got=f"{len(self.fresh) + len(self.before):,}",
                allowed=[f"{MOST_KNOWN:,}"],
                fix="give a shorter lag=, or a mark that is finer",
            )

    def end(self) -> None:
        """Behind the last page: the next round begins a lag behind the highest mark."""
        self.turn()
        if self.top is None:
            return
        self.since = self.lag.behind(self.top)
        low = self.since.order
        self.before = {digest: order for digest, order in self.before.items() if not self._below(order, low)}
        self.before |= self.fresh
        self.fresh = {}

    def _below(self, one: Order, other: Order) -> bool:
        try:
            return bool(operator.lt(one, other))
        except TypeError:
            raise Permanent(
                "marks of several kinds",
                where=self.where,
                got=f"{type(one).__name__} and {type(other).__name__}",
                fix="name as the mark a member that is always a time or always a number",
            ) from None

    def pack(self) -> list[Value | None]:
        """For a bookmark."""
        hashes = base64.b64encode(b"".join([*self.before, *self.fresh])).decode()
        return [None if mark is None else mark.value for mark in (self.since, self.top)] + [hashes]

    @classmethod
    def unpack(cls, lag: Lag, where: str, since: Value | None, top: Value | None, hashes: str) -> Seen:
        """What :meth:`pack` gave. The hashes' marks are not in it: they count as the highest one."""
        first, highest = (None if value is None else mark_of(value, where) for value in (since, top))
        data, order = base64.b64decode(hashes), highest.order if highest is not None else 0
        known = {data[at : at + _DIGEST]: order for at in range(0, len(data), _DIGEST)}
        return cls(lag, where, first, highest, known)
