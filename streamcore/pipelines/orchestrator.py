"""``PipelineOrchestrator``: registers pipelines, starts runs, and executes them.

Several orchestrators may share a store. Each run has one owner, which renews its lease every LEASE / 3
seconds. When an owner dies or stands still, its lease runs out; another one takes the run up, ends the
attempts that were running as lost, and goes on.

Life::

    start()   open the store, begin to beat: renew leases, see cancellations, take up runs that nobody owns;
              begin to schedule and to send notifications, if no other orchestrator does
    stop()    stop what runs and hand the runs over, end children, close the store
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from pydantic import JsonValue, ValidationError

from streamcore.errors import BadConfig, Permanent, StreamcoreError
from streamcore.metadata import open_store
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import Claim, RunRecord
from streamcore.metadata.states import RUN_ENDS
from streamcore.pipelines.attempts import Means
from streamcore.pipelines.checks import Kinds, check
from streamcore.pipelines.children import Nursery
from streamcore.pipelines.commands import new_run, plan_of, reopen
from streamcore.pipelines.deciding import Plan
from streamcore.pipelines.execution import Execution
from streamcore.pipelines.guarded import Lifeline
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.leading import MakeLeader
from streamcore.pipelines.models import PipelineConfig
from streamcore.pipelines.notifications.notifier import Notifier
from streamcore.pipelines.scheduler import Scheduler
from streamcore.pipelines.share import Share
from streamcore.pipelines.status import RunView, view_of
from streamcore.settings import Settings, load

log = logging.getLogger("streamcore.pipelines")
LEASE_SECONDS = 15.0
MOST_RUNS = 100
"""So many runs an orchestrator executes at a time; others wait, or go to another one."""
MOST_WAITING = 1000
"""Among so many waiting runs it looks for its own."""


@dataclass(frozen=True, slots=True)
class RegisteredPipeline:
    """A pipeline that can be started; a changed configuration is a new ``version``."""

    pipeline_id: str
    version: int
    config: PipelineConfig


class PipelineOrchestrator:
    """Runs pipelines.

    ::

        orchestrator = PipelineOrchestrator()
        await orchestrator.start()
        pipeline = await orchestrator.register_pipeline(config)
        run_id = await orchestrator.trigger_pipeline(pipeline.pipeline_id, wait=True)
        status = await orchestrator.get_pipeline_status(run_id)
        await orchestrator.stop()
    """

    def __init__(
        self,
        store: Store | str | None = None,
        *,
        settings: Settings | None = None,
        kinds: Kinds = KINDS,
        take_up: bool = True,
        share: Share | None = None,
        leaders: Sequence[MakeLeader] = (),
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*store* is a store, which the caller closes, or a URL; None: ``metadata.url`` of the settings.

        *take_up*: also execute runs that others have queued or left behind, and make those that schedules ask
        for. *share*: of these the ones that it takes up at once; the others when they have waited for as long
        as a lease. None: all are. *leaders*: more that one of the store's orchestrators does for all.
        *clock*: seconds since 1970.
        """
        self._given, self._settings, self._kinds = store, settings, kinds
        self._take_up, self._share, self._lease, self._clock = take_up, share, lease_seconds, clock
        self._more_leaders = leaders
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._store: Store | None = None
        self._executions: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: set[str] = set()
        """Runs that are its own or about to be, and that it does not execute yet."""
        self._unreadable: set[str] = set()
        self._beating: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._scheduler: Scheduler | None = None
        self._stopping = False

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the store and begin to execute. BadConfig or Permanent when the store can't be used."""
        if self._beating is not None:
            return
        settings = self._settings or load().settings
        self._notifications = settings.notifications
        self._store = await self._opened(settings)
        self._stopping = False
        self._lifeline = Lifeline(self._lease)
        self._means = Means(self._kinds, self._lifeline, Nursery(self._lifeline))
        self._beating = asyncio.ensure_future(self._beat_on())
        common = (self._store, self.owner, self._lease_us, self._now)
        self._scheduler = Scheduler(*common) if self._take_up else None
        more = [make(*common) for make in self._more_leaders]
        self._tellers = [Notifier(*common, self._notifications), *more]
        for leader in (self._scheduler, *self._tellers):
            if leader is not None:
                leader.start()

    async def stop(self) -> None:
        """Stop what runs; the runs that have not ended are free for other orchestrators at once."""
        if self._beating is None:
            return
        self._stopping = True
        if self._scheduler is not None:
            await self._scheduler.stop()
        for execution in self._executions.values():
            execution.hand_over()
        await self._idle()
        await asyncio.gather(*(leader.stop() for leader in self._tellers))
        self._beating.cancel()
        with suppress(asyncio.CancelledError):
            await self._beating
        await self._idle()  # what the last beat had claimed
        self._beating = None
        await self._means.nursery.close()
        if self._store is not None and self._store is not self._given:
            await self._store.close()
        self._store = None

    async def _idle(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> PipelineOrchestrator:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    # ------------------------------------------------------------ pipelines and runs

    async def register_pipeline(self, config: PipelineConfig) -> RegisteredPipeline:
        """Check *config* and store it. BadConfig says what is missing or wrong, and where."""
        check(config, self._kinds, self._notifications)
        text = config.model_dump_json(exclude_defaults=True)
        record = await self.store.register(config.pipeline_id, text, self._now())
        kinds = [self._kinds[task.task_type] for task in config.tasks if task.task_type is not None]
        for ahead in {kind.ahead for kind in kinds if kind.ahead}:
            self._means.nursery.warm(ahead)
        return RegisteredPipeline(config.pipeline_id, record.version, config)

    async def trigger_pipeline(
        self,
        pipeline_id: str,
        wait: bool = False,
        parameters: Mapping[str, JsonValue] | None = None,
        *,
        priority: int = 0,
        queue: bool = False,
    ) -> str:
        """Start a run of the newest version and return its id; with *wait* when the run has ended.

        Without *wait* it returns as soon as the run's first tasks have begun. With *queue* the run is left to
        whoever takes up runs. BadConfig: no such pipeline, or it has no such parameter.
        """
        run_id = uuid.uuid4().hex
        given = dict(parameters or {})
        new, plan = await new_run(
            self.store, pipeline_id, run_id, given, priority=priority, kinds=self._kinds
        )
        if queue:
            await self.store.create_run(new, self._now())
        else:
            execution = await self._begin(new, plan)
            await execution.began.wait()
        if wait:
            await self.wait(run_id)
        return run_id

    async def get_pipeline_status(self, run_id: str) -> RunView | None:
        """The run as it is now, with its tasks; None when there is no such run. Answers at once."""
        store = self.store
        run = await store.run(run_id)
        return None if run is None else view_of(run, await store.tasks(run_id))

    async def wait(self, run_id: str) -> RunView:
        """The run when it has ended, wherever it is executed."""
        while True:
            if (execution := self._executions.get(run_id)) is not None:
                await execution.over.wait()
            view = await self.get_pipeline_status(run_id)
            if view is None:
                raise BadConfig(f"there is no run {run_id!r}")
            if view.status in RUN_ENDS:
                return view
            await asyncio.sleep(0.2)

    async def cancel(self, run_id: str) -> bool:
        """Ask for the end of a run; its tasks are stopped. False when it had ended."""
        asked = await self.store.cancel(run_id, self._now())
        if asked and run_id in self._executions:
            self._executions[run_id].cancel()
        return asked

    async def rerun(self, run_id: str, wait: bool = False) -> None:
        """Go on with a failed or cancelled run: what succeeded stays, all else is done again.

        The attempts of before are kept, and what is exactly once goes on where it stood. BadConfig: no such
        run, or it is in another state.
        """
        await reopen(self.store, run_id, self._now())
        await self._claim(run_id)
        if wait:
            await self.wait(run_id)

    def look(self) -> None:
        """Runs may be waiting: do not wait for the next beat to take them up."""
        self._news.set()

    async def warmed_up(self) -> None:
        """Returns when processes for the registered pipelines' data tasks stand ready."""
        await self._means.nursery.settle()

    # ------------------------------------------------------------ execution

    @property
    def store(self) -> Store:
        """The store, once this is started."""
        if self._store is None:
            raise Permanent("the orchestrator is not started", fix="await orchestrator.start() first")
        return self._store

    async def _opened(self, settings: Settings) -> Store:
        if self._given is not None and not isinstance(self._given, str):
            return self._given
        return await open_store(self._given or settings.metadata_url())

    async def _run(self, run_id: str) -> RunRecord:
        run = await self.store.run(run_id)
        if run is None:
            raise Permanent(f"run {run_id} is gone from the store")
        return run

    async def _begin(self, new: NewRun, plan: Plan) -> Execution:
        """Make the run, and execute it here."""
        now = self._now()
        own = replace(new, owner=self.owner, lease_until_us=now + self._lease_us)
        with self._taken(new.run_id):
            await self.store.create_run(own, now)
            run = await self._run(new.run_id)
            return self._execute(Claim(new.run_id, self.owner, run.epoch, run.changes), run, plan)

    async def _claim(self, run_id: str) -> None:
        """Execute the run here, if nobody else has it, and it is not being taken up already.

        Two claims by one owner look to the store like one whose answer was lost: both would have the run.
        """
        if run_id in self._taking:
            return
        now = self._now()
        with self._taken(run_id):
            claim = await self.store.claim(run_id, self.owner, now + self._lease_us, now)
            if claim is None:
                return
            run = await self._run(run_id)
            record = await self.store.pipeline(run.pipeline_id, run.version)
            assert record is not None, "a run has its pipeline"
            self._execute(claim, run, plan_of(record.config, self._kinds))

    @contextmanager
    def _taken(self, run_id: str) -> Iterator[None]:
        """While the run becomes this orchestrator's own."""
        self._taking.add(run_id)
        try:
            yield
        finally:
            self._taking.discard(run_id)

    def _execute(self, claim: Claim, run: RunRecord, plan: Plan) -> Execution:
        execution = Execution(self.store, claim, run, plan, self._means, self._clock)
        if run.cancel_us is not None:
            execution.cancel()
        if self._stopping:  # the claim was under way when the end began
            execution.hand_over()
        self._executions[run.run_id] = execution
        task = asyncio.ensure_future(execution.execute())
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._executions.get(run.run_id) is execution:
                del self._executions[run.run_id]

        task.add_done_callback(done)
        return execution

    async def _beat_on(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._beat(), self._lease * 2 / 3)
            except (StreamcoreError, asyncio.TimeoutError) as error:
                log.warning("the store does not answer: %s", error or "not in time")
                if time.monotonic() > self._lifeline.deadline:
                    for execution in self._executions.values():
                        execution.lose()
            except Exception:  # without this loop no lease is renewed, and all runs are lost
                log.exception("something went wrong while leases were renewed")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(self._lease / 3, 1.0))
            self._news.clear()

    async def _beat(self) -> None:
        """Renew the leases, look for cancellations, take up what nobody owns."""
        store, until = self.store, time.monotonic() + self._lease
        now = self._now()
        executed = dict(self._executions)
        progress = [one for execution in executed.values() for one in execution.progress()]
        own = await store.beat(self.owner, now + self._lease_us, progress)
        for run_id, other in executed.items():
            if run_id not in own:  # it has ended, or another orchestrator has taken it up
                other.lose()
        self._lifeline.extend(until)
        for run_id, cancelled in own.items():
            if (execution := self._executions.get(run_id)) is None:
                if run_id not in self._taking:
                    await self._let_go(run_id)
            elif cancelled:
                execution.cancel()
        room = MOST_RUNS - len(self._executions)
        if self._take_up and not self._stopping and room > 0:
            await self._take((await self._waiting(now))[:room])

    async def _waiting(self, now: int) -> list[str]:
        """The runs to be taken up here, by priority and age."""
        found = await self.store.claimable(now, MOST_WAITING)
        if self._share is None:
            return [one.run_id for one in found]
        own = self._share.has(one.run_id for one in found)
        return [one.run_id for one in found if one.run_id in own or one.free_us <= now - self._lease_us]

    async def _let_go(self, run_id: str) -> None:
        """A run that is its own and that nothing executes, as something failed in between, is free again."""
        run = await self._run(run_id)
        await self.store.release(Claim(run_id, self.owner, run.epoch, run.changes))

    async def _take(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            if run_id in self._executions or run_id in self._unreadable or self._stopping:
                continue
            try:
                await self._claim(run_id)
            except ValidationError:
                log.exception("run %s is of a pipeline that this version can't read: left to others", run_id)
                self._unreadable.add(run_id)

    @property
    def _lease_us(self) -> int:
        return round(self._lease * 1e6)

    def _now(self) -> int:
        return round(self._clock() * 1e6)
