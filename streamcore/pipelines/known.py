"""What the store tells of pipelines, asked for anew only when a run has changed since.

All runs of a store are added up for its metrics, which every worker serves every few seconds, mostly with
nothing new. So what was found is cached under the store's mark, which is another one after each change.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from pydantic import TypeAdapter

from streamcore.cache import Cache
from streamcore.metadata.contract import Store
from streamcore.metadata.records import RunTotals
from streamcore.metadata.states import PipelineStatus
from streamcore.pipelines.figures import PipelineFigures, figures_of

BELIEVED = 15.0
"""Seconds for which a result is kept: what has no event, such as rows on their way, is at most so late."""
_TOTALS = TypeAdapter(list[RunTotals])
_YES, _NO = b"1", b"0"


class Known:
    """Answers about the pipelines in *store*, from *cache* where nothing has changed."""

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self._cache = store, cache

    async def totals(self) -> list[RunTotals]:
        """As :meth:`Store.totals`."""

        async def load() -> bytes:
            return _TOTALS.dump_json(await self.store.totals())

        return _TOTALS.validate_json(await self._found("totals", load))

    async def figures(self, pipeline_id: str, runs: int) -> PipelineFigures:
        """The figures of the newest *runs* of the pipeline."""

        async def load() -> bytes:
            found = await self.store.runs(pipeline_id, limit=runs)
            attempts = {run.run_id: await self.store.attempts(run.run_id) for run in found}
            return json.dumps(figures_of(pipeline_id, found, attempts)).encode()  # orjson knows no nan

        return cast("PipelineFigures", json.loads(await self._found(f"figures:{runs}:{pipeline_id}", load)))

    async def dealt_with(self, firings: Mapping[str, int]) -> dict[str, bool]:
        """Of each pipeline, whether a successful run has dealt with this firing of it."""
        if not firings:
            return {}
        mark = await self.store.mark()
        keys = {f"pipelines:{mark}:firing:{at}:{name}": name for name, at in firings.items()}

        async def load(missing: Sequence[str]) -> dict[str, bytes]:
            return {
                key: _YES if await self._is_done(keys[key], firings[keys[key]]) else _NO for key in missing
            }

        found = await self._cache.get_or_load_many(keys, load, BELIEVED)
        return {keys[key]: value == _YES for key, value in found.items()}

    async def _is_done(self, pipeline_id: str, firing: int) -> bool:
        own = await self.store.backfills.runs_of(pipeline_id, firing, firing)
        if any(run.status is PipelineStatus.SUCCESS for run in own.values()):
            return True
        good = await self.store.runs(pipeline_id, statuses=[PipelineStatus.SUCCESS], limit=100)
        # A run on demand does for a firing before it; a backfill's is that of its own firing only.
        return any(run.scheduled_us is None and run.created_us >= firing for run in good)

    async def _found(self, what: str, load: Callable[[], Awaitable[bytes]]) -> bytes:
        key = f"pipelines:{await self.store.mark()}:{what}"
        found = await self._cache.get_or_load(key, load, BELIEVED)
        assert found is not None, "what is loaded is never nothing"
        return found
