"""One run in the hands of this orchestrator, from the claim to its end.

A loop: ask the core what follows, store that, do it, wait until an attempt has ended or something is due.
What begins is stored before it begins, and how it ended before anything follows from it: who dies in between
leaves a running attempt, which the next owner ends as lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from streamcore.crashpoints import crash_point
from streamcore.errors import Fenced, StreamcoreError, Transient
from streamcore.metadata.contract import Store
from streamcore.metadata.records import Change, Claim, Noticed, Progress, RunMoved, RunRecord
from streamcore.metadata.states import RUN_ENDS, AttemptStatus
from streamcore.pipelines.attempts import Attempt, Means
from streamcore.pipelines.deciding import Decision, Ended, Plan, RunState, decide, lost
from streamcore.pipelines.notifications.events import noticed

log = logging.getLogger("streamcore.pipelines")
STORE_PAUSE = 1.0
"""Seconds between two tries at a store that does not answer."""


class Execution:
    """Executes a run. ``began`` is set when its first changes are stored, ``over`` when nothing follows."""

    def __init__(
        self, store: Store, claim: Claim, run: RunRecord, plan: Plan, means: Means, clock: Callable[[], float]
    ) -> None:
        self._store, self._claim, self._run, self._plan = store, claim, run, plan
        self._means, self._clock = means, clock
        self._attempts: dict[str, Attempt] = {}
        self._ended: list[Ended] = []
        self._news = asyncio.Event()
        self._cancel = self._hand_over = False
        self.began, self.over = asyncio.Event(), asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def run_id(self) -> str:
        """The run."""
        return self._run.run_id

    def cancel(self) -> None:
        """Somebody wants the run to end."""
        if not self._cancel:
            self._cancel = True
            self._news.set()

    def hand_over(self) -> None:
        """Stop what runs, so that another orchestrator goes on."""
        self._hand_over = True
        self._stop_all("its orchestrator was stopped")
        self._news.set()

    def lose(self) -> None:
        """The lease is over: nothing may go on until it is known who owns the run."""
        self._stop_all("the lease was over before it could be renewed")

    def progress(self) -> list[Progress]:
        """Of the attempts that have got on since this was asked."""
        return [found for attempt in self._attempts.values() if (found := attempt.progress()) is not None]

    async def execute(self) -> None:
        """Until the run has ended, is handed over, or is another's."""
        try:
            await self._loop()
        except Fenced:
            log.warning("another orchestrator has taken run %s over", self.run_id)
        except StreamcoreError as error:
            log.error("run %s can't go on here: %s", self.run_id, error)
            await self._give_up()
        except Exception:
            log.exception("run %s can't go on here", self.run_id)
            await self._give_up()
        finally:
            await self._end_attempts()
            self.began.set()
            self.over.set()

    async def _loop(self) -> None:
        tasks = {task.task_id: task for task in await self._store.tasks(self.run_id)}
        state = RunState(self.run_id, self._run.status, tasks)
        self._ended += lost(state)
        while True:
            state = replace(state, cancel=self._cancel)
            taken, self._ended = self._ended, []
            now = self._now()
            decision = decide(self._plan, state, taken, now, begin=not self._hand_over)
            decision.changes += self._noticed(decision, now)
            if decision.changes:
                crash_point("pipeline.decided")
                await self._commit_patiently(decision.changes, now)
                crash_point("pipeline.committed")
                self._tell(decision.changes)
            state = decision.state
            for task_id in decision.start:
                self._start(state, task_id)
            if self._hand_over:  # asked for while the beginning was stored
                self._stop_all("its orchestrator was stopped")
            self.began.set()
            for stop in decision.stop:
                if stop.task_id in self._attempts:
                    self._attempts[stop.task_id].stop(stop.status, stop.error)
            if state.status in RUN_ENDS:
                return
            if self._hand_over and not self._attempts:
                await self._store.release(self._claim)
                return
            await self._wait(decision.wake_us)

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, RunMoved):
                why = f": {change.reason}" if change.reason else ""
                log.info("pipeline %s, run %s: %s%s", self._run.pipeline_id, self.run_id, change.after, why)

    def _noticed(self, decision: Decision, now: int) -> list[Noticed]:
        """What is to be told of the changes, stored with them."""
        tasks, changes = decision.state.tasks, decision.changes
        return list(noticed(self._plan.config, self._run, tasks, changes, now, self._claim.changes))

    async def _commit_patiently(self, changes: Sequence[Change], now: int) -> None:
        """Stored, however long the store is away: what has happened must not be forgotten."""
        while True:
            try:
                return await self._store.commit(self._claim, changes, now)
            except Transient as error:
                if self._hand_over:
                    raise
                log.warning("run %s waits for its store: %s", self.run_id, error)
                await asyncio.sleep(STORE_PAUSE)

    def _start(self, state: RunState, task_id: str) -> None:
        attempt = Attempt(self._means, self._plan, self._run, state, task_id)
        self._attempts[task_id] = attempt
        watcher = asyncio.ensure_future(self._watch(attempt))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, attempt: Attempt) -> None:
        ended = await attempt.ended()
        crash_point("pipeline.effect")
        if self._hand_over and ended.status is AttemptStatus.LOST:
            ended = replace(ended, counts=False)
        del self._attempts[attempt.task_id]
        self._ended.append(ended)
        self._news.set()

    async def _wait(self, wake_us: int | None) -> None:
        """Until there is news, or it is time."""
        seconds = None if wake_us is None else max(wake_us / 1e6 - self._clock(), 0.0)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()

    def _stop_all(self, why: str) -> None:
        for attempt in self._attempts.values():
            attempt.stop(AttemptStatus.LOST, why)

    async def _end_attempts(self) -> None:
        """Nothing goes on behind an execution that is over."""
        self._stop_all("its run is over here")
        if self._watchers:
            await asyncio.wait(self._watchers)

    async def _give_up(self) -> None:
        """Others may go on, at once if the store hears of it."""
        with suppress(StreamcoreError):
            await self._store.release(self._claim)

    def _now(self) -> int:
        return round(self._clock() * 1e6)
