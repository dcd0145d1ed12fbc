"""Coroutines that are begun where they are called: most need no wait, and so no task of their own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """*coroutine*, run up to where it waits for the first time, in the task that makes this.

    ``ended``: it did not wait, and ``result`` is what it returned; what it raises is raised here.
    Otherwise the rest is to be awaited once, in any task of the same loop.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.ended = False
        self.result: T | None = None
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self.ended, self.result = True, end.value

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        go_on: Callable[[], Any]
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in, e.g. a cancellation, is its
                go_on = partial(self._coroutine.throw, error)
            else:
                go_on = partial(self._coroutine.send, sent)
            try:
                waits_for = go_on()
            except StopIteration as end:
                result: T = end.value
                return result
