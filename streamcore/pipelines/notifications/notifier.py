"""Sends what is to be told, in the background. One of many orchestrators leads, by a lease of the store.

A message that can't be sent waits 5 s, then twice as long each time up to 15 minutes, and is given up a day
after what it tells. After a message, further notices of the same pipeline and event wait until its
``fold_within`` is over, and are one message then. A run never waits for any of this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from pydantic import JsonValue, ValidationError

from streamcore.crashpoints import crash_point
from streamcore.errors import BadConfig, StreamcoreError
from streamcore.metadata.contract import Store
from streamcore.metadata.notices import Notice
from streamcore.metadata.states import PipelineStatus
from streamcore.pipelines.leading import Leader
from streamcore.pipelines.models import NotifyOn, PipelineConfig
from streamcore.pipelines.notifications.channels import Channel, channel_of, fold_seconds, with_defaults
from streamcore.pipelines.notifications.events import late
from streamcore.pipelines.notifications.messages import facts_of
from streamcore.pipelines.notifications.sending import send
from streamcore.settings.model import Notifications

log = logging.getLogger("streamcore.pipelines")
SEND_SECONDS = 60.0
"""So long one message may take. It is taken for twice that, so no other orchestrator sends it meanwhile."""
LAST_SECONDS = 10.0
"""So long an orchestrator that stops sends what is due."""
FIRST_WAIT, LONGEST_WAIT, GIVE_UP = 5.0, 900.0, 86_400.0
_AT_ONCE = 8
_MOST_RUNS = 1000
_MOST_NOTICES = 100
_SECOND = 1_000_000


class Notifier(Leader):
    """Sends what is due, if it leads."""

    job, page, last_seconds = "notifications", _MOST_NOTICES, LAST_SECONDS

    def __init__(
        self, store: Store, owner: str, lease_us: int, clock: Callable[[], int], defaults: Notifications
    ) -> None:
        super().__init__(store, owner, lease_us, clock)
        self._defaults = defaults
        self._configs: dict[tuple[str, int], PipelineConfig] = {}

    async def _lead(self, now: int) -> int:
        """Send what is due; how many there were."""
        await self._look_for_late_runs(now)
        due = await self._store.notices.due(now, _MOST_NOTICES)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(notice: Notice) -> None:
            async with limit:
                await self._deal_with(notice)

        await asyncio.gather(*(one(notice) for notice in due))
        return len(due)

    async def _look_for_late_runs(self, now: int) -> None:
        alive = (PipelineStatus.QUEUED, PipelineStatus.RUNNING)
        for run in await self._store.runs(statuses=alive, limit=_MOST_RUNS):
            try:
                config = await self._config(run.pipeline_id, run.version)
            except BadConfig:
                continue  # its owner says so
            if "on_sla_miss" in config.notifications and (notice := late(config, run, now)) is not None:
                await self._store.notices.add([notice])

    async def _config(self, pipeline_id: str, version: int) -> PipelineConfig:
        key = (pipeline_id, version)
        if key not in self._configs:
            record = await self._store.pipeline(pipeline_id, version)
            assert record is not None, "a run has its pipeline"
            try:
                self._configs[key] = PipelineConfig.model_validate_json(record.config)
            except ValidationError:
                where = f"pipeline {pipeline_id!r}, version {version}"
                raise BadConfig("it was registered by another streamcore", where=where) from None
        return self._configs[key]

    # ------------------------------------------------------------ one message

    async def _deal_with(self, notice: Notice) -> None:
        """Send the message of *notice*, or let it wait."""
        notices, now = self._store.notices, self._clock()
        try:
            channel = await self._channel(notice)
        except BadConfig as error:
            await self._failed(notice, error)
            return
        span = round(fold_seconds(channel, notice.event) * _SECOND)
        if notice.lead is None and span:
            free_at = await self._free_at(notice, span, now)
            if free_at > now:
                await notices.postpone(notice, free_at)
                return
        message = await notices.take(notice, now + round(2 * SEND_SECONDS * _SECOND), fold=span > 0)
        if not message:
            return
        facts: dict[str, JsonValue] = facts_of(message)
        crash_point("notification.taken")
        try:
            sending = send(channel, facts, message[0].notice_id, self._clock() / _SECOND)
            await asyncio.wait_for(sending, SEND_SECONDS)
        except Exception as error:  # noqa: BLE001 - what is wrong with one message must not hold up others
            await self._failed(message[0], error)
            return
        crash_point("notification.sent")
        await notices.done(message[0], self._clock())

    async def _free_at(self, notice: Notice, span: int, now: int) -> int:
        """When a message of this pipeline and event may be sent again."""
        under_way, done = await self._store.notices.last(notice.pipeline_id, notice.event)
        soon = now + round(FIRST_WAIT * _SECOND) if under_way else 0
        return max(soon, 0 if done is None else done + span)

    async def _channel(self, notice: Notice) -> Channel:
        config = await self._config(notice.pipeline_id, notice.version)
        wanted = config.notifications[cast("NotifyOn", notice.event)]
        try:
            return with_defaults(channel_of(wanted.model_dump()), self._defaults)
        except ValidationError:
            raise BadConfig("a variable of the notification is wrong", fix="check it") from None

    async def _failed(self, notice: Notice, error: BaseException) -> None:
        said = f"{type(error).__name__} in sending"  # its text may hold a secret
        if isinstance(error, StreamcoreError):
            said = str(error)
        elif isinstance(error, asyncio.TimeoutError):
            said = f"it took longer than {SEND_SECONDS:g} s"
        now, what = self._clock(), f"{notice.event} of pipeline {notice.pipeline_id}"
        if now > notice.at_us + GIVE_UP * _SECOND:
            log.error("the notification %s is given up: %s", what, said)
            await self._store.notices.done(notice, now, said)
            return
        wait = min(FIRST_WAIT * 2.0**notice.tries, LONGEST_WAIT)
        log.warning("the notification %s could not be sent, again in %.0f s: %s", what, wait, said)
        await self._store.notices.postpone(notice, now + round(wait * _SECOND), said)
