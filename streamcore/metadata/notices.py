"""What is asked of a store for notices: what people are to be told of runs.

One suite for all: tests/conformance/test_notices.py.

**Who calls.** The owner of a run adds a notice in the commit that makes what it tells of
(:class:`streamcore.metadata.records.Noticed`), so no change is told that was not made, and none that was made
goes untold. A sender then takes what is due, sends it, and says how that went.

**Messages.** Notices of the same pipeline and event that wait together are one message. Which these are is
stored by :meth:`Notices.take` before it is sent, so a message that is sent again has the same id and says the
same. Two senders may believe for a while that they lead: only one of them takes a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell of a run. ``event`` is e.g. ``on_failure``; ``facts`` are for its text.

    ``version``: the pipeline's, whose configuration says whom to tell. ``tries``: how often it was sent in
    vain. Not before ``due_us`` it is sent. ``lead``: the notice that gives its message the id; None: it is in
    no message yet.
    """

    notice_id: str
    run_id: str
    pipeline_id: str
    version: int
    event: str
    at_us: int
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    due_us: int = 0
    tries: int = 0
    lead: str | None = None


class Notices(Protocol):
    """Notices, as a part of a store. A notice is added once: again, nothing happens."""

    async def add(self, notices: Sequence[Notice]) -> None:
        """Tell these, which no change of a run has made, e.g. that one is late."""

    async def due(self, now: int, limit: int) -> list[Notice]:
        """The oldest that are due: leads of messages, and such as are in no message yet."""

    async def take(self, notice: Notice, until: int, *, fold: bool) -> list[Notice]:
        """Make *notice* the lead of its message, which nobody else takes before *until*.

        With *fold* all that waits of the same pipeline and event is in it, if it is taken for the first time.

        All of the message, the lead first. Empty: somebody else has it, or it is not as the caller saw it.
        """

    async def postpone(self, notice: Notice, due_us: int, error: str = "") -> None:
        """Send it not before *due_us*; with *error*, it was sent in vain once more."""

    async def done(self, notice: Notice, now: int, error: str = "") -> None:
        """The message that *notice* leads is sent; with *error*: it is given up."""

    async def last(self, pipeline_id: str, event: str) -> tuple[bool, int | None]:
        """Whether a message of this pipeline and event is under way, and when the last one was done."""
