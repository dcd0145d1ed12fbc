"""The answers of a worker to what its tasks ask: rows of references, fetched or remembered.

A task asks for the distinct keys of its batch before its rows go on (:mod:`streamcore.asking`). What is not
remembered is fetched; when the reference can't be reached now, it is tried again with back-off, and meanwhile
the partition waits: nothing goes on without its row, and nothing is lost.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

import polars as pl

from streamcore.asking import Asked, Asking, AskingEach, ReferenceReader
from streamcore.errors import Transient
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.lookup_cache import LookupCache
from streamcore.runtime.retry import Retries

log = logging.getLogger(__name__)

T = TypeVar("T")


class Abandoned(Exception):
    """Nobody waits for the answer any more: the worker ends, or the partition has left."""


class Lookups:
    """The references of *graph*: :meth:`start`, then questions, then :meth:`close`. *clock*: in seconds."""

    def __init__(self, graph: Graph, retries: Retries, clock: Callable[[], float], metrics: Metrics) -> None:
        self._readers: dict[str, ReferenceReader] = {}
        self._caches: dict[str, LookupCache] = {}
        for asker, reference in graph.references.items():
            self._readers[asker] = reference.reader(clock)
            if (caching := reference.caching) is not None:
                self._caches[asker] = LookupCache(reference.types, reference.keys, caching)
        self._retries, self._clock, self._topology, self._metrics = retries, clock, graph.name, metrics
        self.errors: dict[str, str] = {}
        """By node, why its questions are not answered just now."""

    async def start(self) -> None:
        """Connect to every reference. BadConfig or Permanent when one can't be used."""
        for node, reader in self._readers.items():
            await self._retries.run(f"lookup {node}", reader.start, partial(self._failed, node))
            self.errors.pop(node, None)

    async def close(self) -> None:
        """Close all readers."""
        for node, reader in self._readers.items():
            try:
                await reader.close()
            except Exception as error:  # noqa: BLE001 - the others are to be closed too
                log.warning("closing lookup %s: %s", node, error)

    async def answered(self, asking: Asking[T], wanted: Callable[[], bool]) -> T:
        """The result of *asking*. Abandoned when the reference can't be reached and it is not *wanted*."""
        try:
            asked = next(asking)
            while True:
                asked = asking.send(await self._answer(asked, wanted))
        except StopIteration as done:
            result: T = done.value
            return result

    async def answered_each(self, asking: AskingEach[T], wanted: Callable[[], bool]) -> AsyncIterator[T]:
        """The results of *asking*; otherwise as :meth:`answered`."""
        answer: pl.DataFrame | None = None
        while True:
            try:
                made = next(asking) if answer is None else asking.send(answer)
            except StopIteration:
                return
            answer = await self._answer(made, wanted) if isinstance(made, Asked) else None
            if not isinstance(made, Asked):
                yield made

    async def _answer(self, asked: Asked, wanted: Callable[[], bool]) -> pl.DataFrame:
        cache, missing = self._caches.get(asked.node), asked.keys
        known = pl.DataFrame(schema=asked.reference.types)
        if cache is not None:
            known, missing = cache.known(missing, self._clock())
        counts = {"remembered": asked.keys.height - missing.height, "fetched": missing.height}
        for answer, count in counts.items():
            self._metrics.lookup_keys.labels(self._topology, asked.node, answer).inc(count)
        if not missing.height:
            return known
        reader = self._readers[asked.node]
        began = self._clock()

        def failed(error: Transient) -> None:
            if not wanted():
                raise Abandoned
            self._failed(asked.node, error)

        rows = await self._retries.run(f"lookup {asked.node}", lambda: reader.rows(missing), failed)
        self.errors.pop(asked.node, None)
        if cache is not None:
            cache.add(missing, rows, began)
        return pl.concat([known, rows])

    def _failed(self, node: str, error: Transient) -> None:
        self.errors[node] = str(error)
        self._metrics.lookup_retries.labels(self._topology, node).inc()
        log.warning("lookup %s waits: %s", node, error)
