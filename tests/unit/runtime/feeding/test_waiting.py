"""Waiting ends when the group's commits have passed the end markers, and says when nobody works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pytest

from streamcore.errors import Transient
from streamcore.runtime.feeding import waiting
from streamcore.runtime.feeding.waiting import GroupWait


class Group:
    """Gives the prepared answers in turn; the last one stays."""

    def __init__(self, *commits: Mapping[tuple[str, int], int] | Exception, members: int = 1) -> None:
        self._commits, self._members = list(commits), members

    async def committed(self, group: str) -> Mapping[tuple[str, int], int]:
        now = self._commits.pop(0) if len(self._commits) > 1 else self._commits[0]
        if isinstance(now, Exception):
            raise now
        return now

    async def members(self, group: str) -> int:
        return self._members


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY", 0)


STARTS, ENDS = {"t": {0: 10, 1: 10}}, {"t": {0: 15, 1: 10}}


async def test_it_is_done_when_all_is_committed_and_empty_partitions_need_no_commit() -> None:
    wait = GroupWait(
        Group({}, {("t", 0): 4}, Transient("away"), {("t", 0): 13}, {("t", 0): 15}), "g", STARTS, ENDS
    )
    seen: list[int] = []
    assert await wait.done(asyncio.Event(), lambda: seen.append(sum(wait.left.values())))
    assert seen == [5, 11, 2, 0]


async def test_a_stop_ends_the_wait() -> None:
    stop = asyncio.Event()
    assert not await GroupWait(Group({}), "g", STARTS, ENDS).done(stop, stop.set)


async def test_a_group_without_members_is_told(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    with caplog.at_level(logging.INFO):
        await GroupWait(Group({}, members=0), "g", STARTS, ENDS).done(stop, stop.set)
    assert "group g has no members" in caplog.text
