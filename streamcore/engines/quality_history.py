"""Results kept over time in the store of metadata, beside pipelines and runs."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

from pydantic import ValidationError

from streamcore.declaring import check_name
from streamcore.errors import Permanent
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.measurements import Measurement
from streamcore.quality.profile import Profile
from streamcore.quality.report import RunRecord
from streamcore.settings import load
from streamcore.systems.own_loop import OwnLoop

T = TypeVar("T")
_EPOCH, _MICROSECOND = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc), dt.timedelta(microseconds=1)


class QualityHistory:
    """A :class:`~streamcore.quality.store.QualityStore` at *url*, or ``metadata.url`` of the settings.

    ::

        with QualityHistory() as history:
            report = await QualityEngine(history).run("data/flights.parquet")

    It connects when it is first asked. Its callers wait in their threads; the store has one of its own.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url or load().settings.metadata_url()
        self._loop, self._opening = OwnLoop("streamcore quality"), asyncio.Lock()
        self._store: Store | None = None

    def append(self, record: RunRecord) -> None:
        """See the contract."""
        one = _measurement(record)
        self._asked(lambda store: store.measurements.add(one))

    def history(self, dataset: str, last: int) -> Sequence[RunRecord]:
        """See the contract."""
        check_name(dataset, "dataset")
        return [_record(one) for one in self._asked(lambda store: store.measurements.last(dataset, last))]

    def datasets(self) -> Sequence[RunRecord]:
        """The newest record of each dataset, by name."""
        return [_record(one) for one in self._asked(lambda store: store.measurements.datasets())]

    def keep_baseline(self, profile: Profile) -> None:
        """See the contract."""
        check_name(profile.dataset, "dataset")
        text, now = profile.model_dump_json(), _microseconds(dt.datetime.now(dt.timezone.utc))
        self._asked(lambda store: store.measurements.keep_baseline(profile.dataset, text, now))

    def baseline(self, dataset: str) -> Profile | None:
        """See the contract."""
        check_name(dataset, "dataset")
        text = self._asked(lambda store: store.measurements.baseline(dataset))
        try:
            return None if text is None else Profile.model_validate_json(text)
        except ValidationError as error:
            raise Permanent(
                f"the baseline of {dataset!r} can't be read: {type(error).__name__}",
                fix="keep another one: streamcore quality profile SOURCE --keep",
            ) from None

    def close(self) -> None:
        """Free what is open. More than once does no harm."""
        if self._loop.used:
            self._loop.run(self._closed())
            self._loop.close()

    def __enter__(self) -> QualityHistory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, ask: Callable[[Store], Awaitable[T]]) -> T:
        return self._loop.run(self._answer(ask))

    async def _answer(self, ask: Callable[[Store], Awaitable[T]]) -> T:
        async with self._opening:
            if self._store is None:
                self._store = await open_store(self._url)
        return await ask(self._store)

    async def _closed(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()


def _measurement(record: RunRecord) -> Measurement:
    check_name(record.dataset, "dataset")
    found = record.model_dump(mode="json", include={"metrics", "pass_rates"})
    at = _microseconds(record.as_of)
    return Measurement(record.dataset, at, record.level, record.rows, record.refused, record.run_id, found)


def _record(one: Measurement) -> RunRecord:
    return RunRecord.model_validate(
        {
            **one.found,
            "dataset": one.dataset,
            "as_of": _EPOCH + one.at_us * _MICROSECOND,
            "rows": one.rows,
            "refused": one.refused,
            "level": one.level,
            "run_id": one.run_id,
        }
    )


def _microseconds(time: dt.datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND
