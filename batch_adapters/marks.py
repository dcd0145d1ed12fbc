"""Tables that are read again and again, by a mark that grows with each change, e.g. ``updated_at``.

Rows come in the order of (mark, key). A row that is committed later than another with a higher mark would
be passed over, so a poll reads only up to a key that is *settled*: of the rows that were seen then, no
transaction that could write a lower one is still open. :class:`Settling` finds it. It knows no database and
no clock: each :class:`Look` says what a database can tell.

=============  ====================================================================================
a database     tells
=============  ====================================================================================
PostgreSQL     which transactions have ended, and when the oldest open one began
MySQL          when the oldest open one began
SQLite         nothing: it has one writer at a time, so what is committed later has a later clock
MongoDB        when the oldest open transaction, or write that is under way, began
=============  ====================================================================================
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import polars as pl

from batch_adapters.key_ranges import Key, KeyRange, Pages

_MOST_CANDIDATES = 100


class Look(NamedTuple):
    """A table at one moment. ``top``: the highest key that is seen, None when there is no row.

    Transactions are numbered as they begin to write: all below ``ended`` have ended, and what they wrote is
    seen; none has a number from ``next`` on yet. Those without a number that may still write
    began at ``open_since`` or later; None: there is none. Both times are the database's, in seconds.
    """

    top: Key | None
    now: float
    ended: int = 0
    next: int = 0
    open_since: float | None = None


class MarkedTable(Protocol):
    """A table in the order of a mark, followed by its key. For one thread; errors as of ``KeyedTable``.

    After Transient or Permanent it is not used any more, but closed.
    """

    @property
    def uri(self) -> str:
        """With what is read, without secrets."""
        ...

    def identity(self) -> str:
        """What it is and which columns it has, not its rows."""
        ...

    def columns(self) -> pl.Schema | None:
        """The columns that are read; None: documents."""
        ...

    def look(self) -> Look:
        """How it is now; what is read next is of this moment or a later one."""
        ...

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        """The rows of *part* in their order, about *max_bytes* a page."""
        ...

    def close(self) -> None:
        """Free the connection."""
        ...


class _Candidate(NamedTuple):
    top: Key
    at: float
    next: int


class Settling:
    """Up to which key all rows are there for good. *settle*: so many seconds rows must have been seen for.

    A key that was the highest at some look is settled when every transaction that was open then has ended,
    and *settle* has passed: for clocks that differ, for marks that only show seconds, and for transactions
    that a database does not show.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._candidates: deque[_Candidate] = deque()
        self._settled: Key | None = None

    def see(self, look: Look) -> Key | None:
        """The settled key as of *look*; None while there is none."""
        newest = self._candidates[-1].top if self._candidates else self._settled
        if look.top is not None and look.top != newest and len(self._candidates) < _MOST_CANDIDATES:
            self._candidates.append(_Candidate(look.top, look.now, look.next))
        while self._candidates and self._is_settled(self._candidates[0], look):
            self._settled = self._candidates.popleft().top
        return self._settled

    def _is_settled(self, candidate: _Candidate, look: Look) -> bool:
        if look.now - candidate.at < self._settle or look.ended < candidate.next:
            return False
        return look.open_since is None or look.open_since > candidate.at
