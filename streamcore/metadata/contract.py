"""What is asked of a store of metadata. One suite for all: tests/conformance/test_stores.py.

**Who calls.** Orchestrators, schedulers and commands, several processes at once where the store is shared.
Every method is one transaction: it happened in whole when it returns, and not at all when it raises.

**Owners.** A run has one owner at a time, who alone changes its states (:meth:`Store.commit`). It owns the
run until its lease is over and somebody else claims it; from then on its commits raise :class:`Fenced`, and
it must drop what it does for the run. A :class:`Claim` is used by one coroutine at a time.

**Changes.** Every change of a state is checked against the table of legal moves, made only if the state is
still the one that the caller saw, and stored together with an event, which is the outbox: who publishes
events reads :meth:`Store.unpublished` and says :meth:`Store.published` afterwards, so each is published at
least once.

**Errors.** Transient errors of the connection are tried again here for some seconds (:data:`PATIENCE`), and a
commit whose answer was lost is not made twice. What is raised then is Transient: the caller may ask again.
Permanent: the store refuses. Times are given by the caller, in microseconds, so that tests can move them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from streamcore.metadata.backfills import Backfills
from streamcore.metadata.measurements import Measurements
from streamcore.metadata.notices import Notices
from streamcore.metadata.records import (
    AttemptRecord,
    Change,
    Claim,
    Claimable,
    EventRecord,
    PipelineRecord,
    Progress,
    RunRecord,
    RunTotals,
    TaskRecord,
)
from streamcore.metadata.scheduling import Scheduling
from streamcore.metadata.states import PipelineStatus

PATIENCE = 20.0
"""Seconds for which a store is asked again after transient errors."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be made. With ``owner`` it is claimed at once, until ``lease_until_us``.

    ``scheduled_us``: it is the firing of its pipeline at this time, which happens once. ``instead_of``: the
    run that the firing had, whose place this one takes.
    """

    run_id: str
    pipeline_id: str
    version: int
    tasks: Sequence[str]
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    scheduled_us: int | None = None
    priority: int = 0
    owner: str | None = None
    lease_until_us: int | None = None
    instead_of: str | None = None


class Store(Protocol):
    """The truth about pipelines and runs; that about their schedules and backfills are parts of it."""

    @property
    def scheduling(self) -> Scheduling:
        """See :mod:`streamcore.metadata.scheduling`."""

    @property
    def backfills(self) -> Backfills:
        """See :mod:`streamcore.metadata.backfills`."""

    @property
    def notices(self) -> Notices:
        """See :mod:`streamcore.metadata.notices`."""

    @property
    def measurements(self) -> Measurements:
        """See :mod:`streamcore.metadata.measurements`."""

    async def close(self) -> None:
        """Free what is open."""

    async def register(self, pipeline_id: str, config: str, now: int) -> PipelineRecord:
        """The version with this *config*: the newest one if it is the same, or a new one."""

    async def pipeline(self, pipeline_id: str, version: int | None = None) -> PipelineRecord | None:
        """That version, or the newest."""

    async def pipelines(self) -> list[PipelineRecord]:
        """The newest version of each, by id."""

    async def create_run(self, run: NewRun, now: int) -> bool:
        """Make a queued run with its tasks.

        False, and nothing is made: its firing was taken already, or has another run than ``instead_of``.
        """

    async def run(self, run_id: str) -> RunRecord | None:
        """That run."""

    async def runs(
        self,
        pipeline_id: str | None = None,
        *,
        statuses: Iterable[PipelineStatus] = (),
        limit: int = 100,
        before_us: int | None = None,
    ) -> list[RunRecord]:
        """The newest runs first, created before *before_us*, in one of *statuses* (none: any)."""

    async def totals(self) -> list[RunTotals]:
        """What there is of all pipelines, by pipeline and state."""

    async def tasks(self, run_id: str) -> list[TaskRecord]:
        """The run's tasks, as the pipeline orders them."""

    async def attempts(self, run_id: str, task_id: str | None = None) -> list[AttemptRecord]:
        """The attempts of a run, or at one of its tasks, as they began."""

    async def events(self, run_id: str, after: int = 0) -> list[EventRecord]:
        """The run's events with a larger id than *after*, in order."""

    async def mark(self) -> str:
        """Names this store and its newest event: what was read of runs is true as long as this is the same.

        Not of progress, which makes no events. In PostgreSQL two changes at once may come in the other order
        than their events: do not believe it for long.
        """

    async def claimable(self, now: int, limit: int) -> list[Claimable]:
        """Runs that have not ended and that nobody owns, by priority and age."""

    async def claim(self, run_id: str, owner: str, until: int, now: int) -> Claim | None:
        """Become the owner; None when somebody else is, or the run has ended."""

    async def commit(self, claim: Claim, changes: Sequence[Change], now: int) -> None:
        """Make *changes*, all or none. Fenced: the run has another owner, or is not as the caller saw it."""

    async def release(self, claim: Claim) -> None:
        """Give the run up, so that others need not wait for the lease. Nothing happens when it is lost."""

    async def beat(self, owner: str, until: int, progress: Sequence[Progress] = ()) -> dict[str, bool]:
        """Renew the leases of *owner*; of each run that is still its own, whether it is to be cancelled."""

    async def cancel(self, run_id: str, now: int) -> bool:
        """Ask the owner to cancel the run; True when it had not ended."""

    async def reopen(self, run_id: str, tasks: Iterable[str], now: int) -> bool:
        """Queue a failed or cancelled run again with *tasks* pending; False when it is in no such state."""

    async def unpublished(self, limit: int) -> list[EventRecord]:
        """The oldest events that are not published."""

    async def published(self, event_ids: Sequence[int], now: int) -> None:
        """These events are published."""

    async def lease(self, name: str, owner: str, until: int, now: int) -> bool:
        """Take or renew the lease *name*, e.g. that of the leading scheduler; False: another one has it.

        A lease that reaches more than twice as far ahead as this one would is not kept from anybody: it was
        taken before the clock was put back.
        """
