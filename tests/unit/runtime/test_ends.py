"""Ends are the broker's own; one that does not answer leaves what is known."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamcore.batch import PartitionId, Range
from streamcore.errors import Transient
from streamcore.runtime.ends import Ends
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog


class Log(EmbeddedLog):
    """``answers``: whether it does."""

    answers = True
    end = 7

    async def bounds(self, topic: str) -> dict[int, Range]:
        if not self.answers:
            raise Transient("gone")
        return {0: Range(0, self.end)}


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    broker = Broker.open("embedded://ends")
    yield Log(broker)
    broker.close()


async def test_the_last_answer_counts(log: Log) -> None:
    ends, source = Ends(log, ["t"], 1.0), PartitionId("t", 0, "id")
    assert ends.of(source) is None
    await ends.ask()
    log.answers, log.end = False, 9
    await ends.ask()
    assert ends.of(source) == 7
    log.answers = True
    await ends.ask()
    assert ends.of(source) == 9
