"""What a store promises for the quality of datasets. The contract: streamcore/metadata/measurements.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streamcore.metadata.contract import Store
from streamcore.metadata.measurements import Measurement
from tests.conformance.test_stores import Open, open_another, store, url

__all__ = ["open_another", "store", "url"]

USERS = Measurement("users", 5, "ok", 1 << 40, 0, None, {"metrics": [{"metric": "validity", "value": 0.5}]})


async def test_what_was_measured_comes_back_in_its_order(store: Store) -> None:
    assert await store.measurements.last("users", 10) == []
    looks = [replace(USERS, at_us=at, level=level) for at, level in ((9, "fail"), (3, "ok"), (3, "warn"))]
    for look in looks:
        await store.measurements.add(look)
        await store.measurements.add(replace(look, dataset="others"))
    assert await store.measurements.last("users", 10) == looks
    assert await store.measurements.last("users", 2) == looks[1:]
    assert await store.measurements.datasets() == [replace(looks[2], dataset="others"), looks[2]]


async def test_a_look_of_a_name_is_kept_once_also_by_two_at_once(open_another: Open) -> None:
    stores = [await open_another() for _ in range(3)]
    named = replace(USERS, run_id="r1")
    await asyncio.gather(*(one.measurements.add(named) for one in stores))
    for _ in range(150):
        await stores[0].measurements.add(USERS)
    await stores[1].measurements.add(replace(named, rows=7))
    await stores[1].measurements.add(replace(named, dataset="others"))
    found = await stores[2].measurements.last("users", 1000)
    assert [one for one in found if one.run_id] == [named]
    assert len(found) == 151
    assert len(await stores[2].measurements.last("others", 10)) == 1


async def test_a_dataset_has_one_baseline(store: Store) -> None:
    assert await store.measurements.baseline("users") is None
    await store.measurements.keep_baseline("others", "{}", 1)
    for profile in ('{"a": "\\u0000 é"}', '{"a": 2}'):
        await store.measurements.keep_baseline("users", profile, 2)
        assert await store.measurements.baseline("users") == profile
