"""What is asked of a store for backfills. The suite: tests/conformance/test_backfills.py.

A backfill is a list of firings, stored when it is made, so that it goes on whoever dies. Each is *waiting*,
then *started* with a run, or *left out*. A start is one transaction of the run and the list's row, made only
if as many were started as the caller saw: so two schedulers never start more than one of them wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from pydantic import JsonValue

from streamcore.metadata.records import RunRecord
from streamcore.metadata.states import State

if TYPE_CHECKING:
    from streamcore.metadata.contract import NewRun

Reprocess: TypeAlias = Literal["none", "failed", "all"]
"""Which firings that have a run are run again: none, those whose run failed or was cancelled, or all."""


class BackfillStatus(State):
    """``done``: each of its firings was left out or has a run that has ended."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewBackfill:
    """A backfill to be made: ``firings`` in the order in which they are run, ``parallel`` at once."""

    backfill_id: str
    pipeline_id: str
    firings: Sequence[int]
    parallel: int = 1
    reprocess: Reprocess = "none"
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackfillRecord:
    """A backfill. ``from_us`` and ``to_us``: its earliest and latest firing; ``started``: runs it has begun.

    ``counts``: its firings that are ``waiting`` or ``left out``, and those with a run by the run's status.
    """

    backfill_id: str
    pipeline_id: str
    status: BackfillStatus
    created_us: int
    ended_us: int | None
    from_us: int
    to_us: int
    parallel: int
    reprocess: Reprocess
    parameters: Mapping[str, JsonValue] = field(repr=False)
    started: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many firings it has."""
        return sum(self.counts.values())

    @property
    def active(self) -> int:
        """How many of its runs have not ended."""
        return self.counts.get("queued", 0) + self.counts.get("running", 0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The firing at ``place`` of a backfill."""

    place: int
    scheduled_us: int


class Backfills(Protocol):
    """Backfills, as a part of a store."""

    async def create(self, new: NewBackfill, now: int) -> None:
        """Make it, running. Nothing happens when there is one of this id."""

    async def backfills(
        self, pipeline_id: str | None = None, *, running: bool = False, limit: int = 100
    ) -> list[BackfillRecord]:
        """The newest first, of one pipeline, or only those that are running."""

    async def waiting(self, backfill_id: str, limit: int) -> list[Waiting]:
        """The firings that come next."""

    async def runs_of(self, pipeline_id: str, from_us: int, to_us: int) -> dict[int, RunRecord]:
        """The runs of all firings from *from_us* to *to_us*, made by whomever, by their times."""

    async def start(self, backfill: BackfillRecord, place: int, run: NewRun, now: int) -> bool:
        """Make *run* for the waiting firing at *place*.

        False, and nothing is made: the backfill has ended, or others were started; the firing is not waiting;
        or it got a run meanwhile.
        """

    async def reopen(
        self, backfill: BackfillRecord, place: int, run: RunRecord, tasks: Sequence[str], now: int
    ) -> bool:
        """Queue *run*, which has failed or was cancelled, again for the firing. False as of :meth:`start`."""

    async def leave_out(self, backfill_id: str, place: int) -> None:
        """The firing at *place* is not run."""

    async def finish(self, backfill_id: str, now: int) -> bool:
        """It is done, if nothing waits in it."""

    async def cancel(self, backfill_id: str, now: int) -> bool:
        """Start no more, and ask for the end of its runs; False when it has ended."""
