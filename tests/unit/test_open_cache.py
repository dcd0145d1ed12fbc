"""Which caches there are, and what is said of others."""

from __future__ import annotations

import pytest

from streamcore.cache import open_cache
from streamcore.errors import BadConfig
from streamcore.settings import load


@pytest.mark.parametrize("url", ["memcached://host", "memory", "redis:host", "redis://u:secret@host:x/0"])
def test_what_is_no_cache_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadConfig) as found:
        open_cache(url)
    assert "redis://" in str(found.value)
    assert "secret" not in str(found.value)


def test_a_cache_needs_room() -> None:
    with pytest.raises(BadConfig, match="an entry at least"):
        open_cache(entries=0)


def test_it_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(environ={}).settings.cache.url == "memory:"
    given = {"STREAMCORE_CACHE__URL": "redis://:secret@host/0", "STREAMCORE_CACHE__ENTRIES": "5"}
    loaded = load(environ=given)
    assert (loaded.settings.cache.url, loaded.settings.cache.entries) == ("redis://:secret@host/0", 5)
    assert "secret" not in str(loaded.shown())
    with pytest.raises(BadConfig, match=r"cache\.url"):
        load(environ={"STREAMCORE_CACHE__URL": "memcached://host"})
