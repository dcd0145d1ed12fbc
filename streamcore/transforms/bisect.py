"""Finding the rows that a function fails on.

A function that keeps the cut law may be applied to halves, so a failing batch is halved until the
failing rows stand alone. A good batch costs one call; *k* bad rows among *n* cost about k log n.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from streamcore.batch import Rejects

FrameFunction = Callable[[pl.DataFrame], pl.DataFrame]


def apply_or_reject(
    frame: pl.DataFrame,
    function: FrameFunction,
    stage: str,
    code: str,
    explain: Callable[[Exception], str],
    errors: tuple[type[Exception], ...],
) -> tuple[pl.DataFrame, Rejects]:
    """*function* of *frame* and no rejects; or of its good rows, and the rows that raised one of *errors*.

    ``explain(error)`` gives the message of a reject; it must not hold the row's content.
    """
    try:
        return function(frame), Rejects()
    except errors as error:
        if frame.height == 1:
            # The function of no rows tells the type of the result.
            return function(frame.clear()), Rejects.of(frame, stage, code, explain(error))
        if frame.height == 0:
            raise
    half = frame.height // 2
    halves = [
        apply_or_reject(part, function, stage, code, explain, errors) for part in (frame[:half], frame[half:])
    ]
    return pl.concat([f for f, _ in halves]), Rejects.join([r for _, r in halves])
