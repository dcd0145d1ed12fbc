"""By which driver MongoDB is read is settled before anything is asked."""

from __future__ import annotations

import sys

import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig
from streamcore.sources.catalogue import open_unbounded

URI = "mongodb://127.0.0.1:1/shop?collection=users"
WAYS = {
    "all": lambda by: open_source(f"{URI}&driver={by}"),
    "runs": lambda by: open_source(f"{URI}&driver={by}&mark=version"),
    "polling": lambda by: open_unbounded(f"{URI}&driver={by}&poll=version"),
    "changes": lambda by: open_unbounded(f"{URI}&driver={by}&changes=all"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "motor", None)
    monkeypatch.delitem(sys.modules, "motor.motor_asyncio", raising=False)
    with pytest.raises(BadConfig, match=r"pip install 'streamcore\[motor\]'"):
        WAYS[way]("motor")


@pytest.mark.parametrize("way", WAYS)
def test_another_driver_is_a_mistake_that_names_those_there_are(way: str) -> None:
    with pytest.raises(BadConfig, match=r"driver.*'pymongo' or 'motor'"):
        WAYS[way]("mongoengine")
