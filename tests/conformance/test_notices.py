"""What a store promises for notices, on each that there is. The contract: streamcore/metadata/notices.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from streamcore.errors import Fenced
from streamcore.metadata.contract import Store
from streamcore.metadata.notices import Notice
from streamcore.metadata.records import Noticed, RunMoved
from streamcore.metadata.states import PipelineStatus as R
from tests.conformance.test_stores import Open, open_another, queued, store, url

__all__ = ["open_another", "store", "url"]


def notice(name: str, event: str = "on_failure", at: int = 10) -> Notice:
    return Notice(name, "r", "p", 1, event, at, {"error": "ü"}, at)


async def names(store: Store, now: int) -> list[str]:
    return [one.notice_id for one in await store.notices.due(now, 10)]


async def test_a_notice_is_stored_with_the_change_that_it_tells_of_or_not_at_all(store: Store) -> None:
    run_id = await queued(store, "a")
    claim = await store.claim(run_id, "me", 100, 2)
    assert claim is not None
    stale = replace(claim, owner="another", epoch=claim.epoch - 1)
    moved = RunMoved(R.QUEUED, R.RUNNING)
    await store.commit(claim, [moved, Noticed(notice("one"))], 10)
    with pytest.raises(Fenced):
        await store.commit(stale, [RunMoved(R.RUNNING, R.FAILED), Noticed(notice("two"))], 10)
    assert await store.notices.due(9, 10) == []
    assert await store.notices.due(10, 10) == [notice("one")]


async def test_a_message_is_taken_once_and_says_the_same_when_it_is_sent_again(open_another: Open) -> None:
    first, second = await open_another(), await open_another()
    await first.notices.add([notice("a"), notice("b", at=11), notice("other", "on_retry")])
    await first.notices.add([notice("a", at=99)])
    lead = (await second.notices.due(20, 10))[0]
    taken = await asyncio.gather(*(one.notices.take(lead, 50, fold=True) for one in (first, second)))
    assert sorted(len(one) for one in taken) == [0, 2]
    assert await names(first, 49) == ["other"], "what is in a message waits with it"
    await first.notices.add([notice("c", at=30)])
    again = next(one for one in await second.notices.due(50, 10) if one.notice_id == "a")
    message = await second.notices.take(again, 99, fold=True)
    assert [one.notice_id for one in message] == ["a", "b"], "what came later is in another one"
    assert await second.notices.last("p", "on_failure") == (True, None)
    await second.notices.done(message[0], 60)
    assert await first.notices.last("p", "on_failure") == (False, 60)
    assert await names(first, 999) == ["other", "c"]


async def test_what_was_sent_in_vain_is_due_later_and_alone_without_folding(store: Store) -> None:
    await store.notices.add([notice("a"), notice("b", at=11)])
    [first, _] = await store.notices.due(20, 10)
    [taken] = await store.notices.take(first, 50, fold=False)
    await store.notices.postpone(taken, 70, "no answer")
    assert await names(store, 69) == ["b"]
    again = (await store.notices.due(70, 10))[0]
    assert (again.notice_id, again.tries, again.lead) == ("a", 1, "a")
    await store.notices.done(again, 80, "given up")
    assert await names(store, 999) == ["b"]
