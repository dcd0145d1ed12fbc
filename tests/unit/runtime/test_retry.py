"""Retries: until it works, never longer than asked, the last cause in the message."""

from __future__ import annotations

import pytest

from streamcore.errors import Permanent, Transient
from streamcore.runtime.retry import Retries

QUICK = Retries(initial=0.001, longest=0.002, give_up_after=0.05)


async def test_transient_errors_are_tried_again_until_it_works() -> None:
    failures = [Transient("gone"), Transient("gone")]
    heard: list[Transient] = []

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert await QUICK.run("writing", call, heard.append) == "done"
    assert len(heard) == 2


async def test_giving_up_names_the_last_cause_and_its_place() -> None:
    async def call() -> None:
        raise Transient("connection refused", where="db:5432", fix="start it")

    with pytest.raises(Permanent, match=r"db:5432: writing failed for .* connection refused; start it"):
        await QUICK.run("writing", call, lambda error: None)


async def test_permanent_errors_are_not_tried_again() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise Permanent("no")

    with pytest.raises(Permanent, match="no"):
        await QUICK.run("writing", call, lambda error: None)
    assert calls == 1
