"""The contracts of unbounded sources: what is read for ever, and where its rows go before anything acts on
them.

The rows of a table that changes, of a slot or of a queue can't be read again as they were. So they are not
replayed from the source: they are taken in. Whoever feeds does this, over and over::

    intake.open          the bookmark behind which reading goes on; fences who fed before
    reader = source.open(bookmark)
    reader.poll          some rows and the bookmark behind them
    intake.append        both, all or nothing, durable
    reader.forget        the system need not keep what lies before the bookmark

From the stream's topic on the rows are like any others. A crash at any place loses none and doubles none:
what was appended has its bookmark with it, what was not is read again, changed or not, and nobody has seen
it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import polars as pl

from streamcore.batch import Chunk
from streamcore.contracts import Lane, Records


class Taken(NamedTuple):
    """Rows of one kind, in their order. Positions and source of *chunk* mean nothing here.

    ``deleted``: the rows are gone. Then the chunk's frame needs only the columns by which they are known.
    """

    chunk: Chunk
    deleted: bool = False


class Polled(NamedTuple):
    """What one poll found: rows, in the order of *parts*, and the bookmark behind them.

    Without parts: up to *bookmark* there is nothing to read. Such a bookmark need not be kept, unless
    ``keep`` says so: the system may not let anyone go on behind the one before it for long.
    """

    bookmark: bytes
    parts: Sequence[Taken] = ()
    keep: bool = False


@dataclass(frozen=True, slots=True)
class UnboundedAbilities:
    """What a source can tell of, as data. ``updates``: rows that changed come again. ``deletes``: rows that
    are gone come as such, which only a topology's ``table`` takes. ``forgets``: the system keeps rows until
    it hears that they are durable here. ``known_by``: the columns by which rows are told that are gone, where
    they are always the same.
    """

    updates: bool = False
    deletes: bool = False
    forgets: bool = False
    known_by: tuple[str, ...] = ()


class UnboundedReader(Protocol):
    """An open source. Called from worker threads, one call at a time.

    Every method may raise Transient: the caller closes the reader and, with back-off, opens another one
    behind the last bookmark that is durable. Permanent and BadConfig stop the feeding.
    """

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """The next rows, about *max_bytes* of them in memory, or None when there are none now.

        *now* is the clock in seconds since 1970. It returns within a second or so also when nothing comes:
        the caller looks whether it is to stop between two polls. After None it waits for ``interval``.
        Behind the same bookmark come the same rows in the same order as far as the system still has them;
        those that changed come as they are now, and none that came before comes unless it changed. What
        can't be cut into a row is in the chunk's ``rejects`` with stage "read".
        """
        ...

    def forget(self, bookmark: bytes) -> None:
        """All that was polled up to *bookmark* is durable: the system need not keep it for this reader.

        Called after an append, and once behind the opening, since a crash may have come between the two.
        """
        ...

    def close(self) -> None:
        """Free connections; nothing is confirmed. Called once, also after errors."""
        ...


class UnboundedSource(Protocol):
    """What is read for ever: a table by its changes, a folder by its new files, a slot. Frozen, from a URI.

    It is one order of rows, and one reader at a time reads it.
    """

    @property
    def uri(self) -> str:
        """Without secrets."""
        ...

    @property
    def abilities(self) -> UnboundedAbilities: ...

    @property
    def interval(self) -> float:
        """Seconds between two polls when the first one found nothing."""
        ...

    def identity(self) -> str:
        """What it is, not its rows. Under another identity no bookmark is known, and reading begins anew."""
        ...

    def columns(self) -> pl.Schema | None:
        """Column names and types as the source knows them, or None. BadConfig when unreadable."""
        ...

    def open(self, bookmark: bytes) -> UnboundedReader:
        """A reader of the rows behind *bookmark*; b"" is the beginning. Errors as of the reader's methods.

        A bookmark of an older version of the same source must be understood, or BadConfig says why not.
        """
        ...


@runtime_checkable
class CatchingUpReader(UnboundedReader, Protocol):
    """A reader that knows when a run may end."""

    @property
    def caught_up(self) -> bool:
        """All that was there when it first looked has been polled: the run ends. Once true it stays true."""
        ...


class CatchingUpSource(UnboundedSource, Protocol):
    """An unbounded source that can be read in runs: each up to what is there, the next one from there on."""

    @property
    def waits_for(self) -> str:
        """What keeps a run from getting on when it gets nowhere, in words that follow "waiting for"."""
        ...

    def open(self, bookmark: bytes) -> CatchingUpReader:
        """See :class:`UnboundedSource`."""
        ...


@runtime_checkable
class Incremental(Protocol):
    """What a bounded source is besides when each replay of it is to read only what came since the last one.

    The rows of such a source are taken in like those of an unbounded one, since they change between runs.
    """

    def taken_in(self) -> CatchingUpSource:
        """The source, by its changes."""
        ...


class Intake(Protocol):
    """Where the rows of one unbounded source go: one topic. One call at a time, in the event loop.

    After Transient, or a call that was broken off, :meth:`open` again says what took effect.
    """

    async def open(self) -> bytes:
        """The bookmark of the last append, or the one that was kept behind it; b"" when there was none.

        From the moment this returns, no one else that opened it before can append. Opened again, it raises
        Fenced when someone else has opened it meanwhile.
        """
        ...

    async def append(self, records: Records, bookmark: bytes) -> None:
        """Append *records* (at least one) and keep *bookmark*: both or none. Durable on return."""
        ...

    async def keep(self, bookmark: bytes) -> None:
        """Keep *bookmark*: from the last append up to it there are no rows. Durable on return.

        b"" begins anew: all rows are read once more, and the next append may have any bookmark.
        """
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


class Intakes(Protocol):
    """The broker's side: a topic and a lane to an intake. Both brokers' logs are it."""

    def intake(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> Intake:
        """What *lane* feeds into *topic*. No I/O here. *crash_point* hears of "intake.before_commit"."""
        ...
