"""The error tree, sorted by what the caller must do.

========================  ==================================================================
class                     the caller …
========================  ==================================================================
:class:`Transient`        tries again with back-off; the effect did not happen or may be asked for
:class:`Permanent`        stops the worker with exit code 1; trying again cannot help
:class:`Fenced`           stops: another owner has taken the partition over
:class:`TopicChanged`     stops: the topic is not the one that the positions belong to
:class:`BadRows`          sends the named rows to the dead letters and goes on with the rest
:class:`BadConfig`        shows the message and exits with code 2, before any row is read
========================  ==================================================================

Every message says what, where, the value got, the values allowed and the next step, on one line;
the same fields are attributes, so that the command line can lay them out in three lines.
No message may hold a secret or a row's content.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StreamcoreError(Exception):
    """Base of all errors that streamcore raises on purpose.

    ``what`` is a short sentence; ``where`` is ``file:line``, ``topic/partition/offset`` or an
    address without credentials; ``got`` and ``allowed`` are the offending and the possible values;
    ``fix`` is the next step in the imperative.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        allowed: Iterable[object] | None = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.allowed = None if allowed is None else tuple(allowed)
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what
        if self.got is not None:
            text += f", got {self.got!r}"
        if self.allowed is not None:
            text += f", allowed: {', '.join(str(a) for a in self.allowed)}"
        if self.where:
            text = f"{self.where}: {text}"
        if self.fix:
            text += f"; {self.fix}"
        return " ".join(text.split())


class Transient(StreamcoreError):
    """The outside may recover by itself (connection lost, time-out, throttled): retry with back-off."""


class Permanent(StreamcoreError):
    """Trying again cannot help (refused credentials, missing table, full disk): stop with exit code 1."""


class Fenced(Permanent):
    """Another owner holds the partition: this one must not write, commit or retry."""


class TopicChanged(Permanent):
    """The topic was deleted and made again, or its retention passed the position: a human decides."""


class BadRows(StreamcoreError):
    """Some rows cannot be processed; ``rows`` are their places in the frame that was given.

    ``code`` is the dead letter's error code.
    """

    def __init__(self, what: str, *, rows: Iterable[int], code: str, where: str | None = None) -> None:
        self.rows = tuple(rows)
        self.code = code
        super().__init__(what, where=where)


class BadConfig(StreamcoreError):
    """The user's module, options or settings are wrong: exit code 2, nothing was read or written."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The hint ``did you mean 'x'?`` for the closest of *known*, or None when nothing is close.

    *cutoff*: how alike they must be, from 0 to 1.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else None
