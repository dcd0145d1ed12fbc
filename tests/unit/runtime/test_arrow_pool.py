"""Arrow takes its memory from jemalloc, unless somebody chose or it has none."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamcore.runtime import arrow_pool


@pytest.fixture(autouse=True)
def system_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pool of before, and nobody has chosen one."""
    before = pa.default_memory_pool()
    monkeypatch.delenv(arrow_pool.CHOICE, raising=False)
    pa.set_memory_pool(pa.system_memory_pool())
    yield
    pa.set_memory_pool(before)


def backend() -> str:
    return pa.default_memory_pool().backend_name


@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="this pyarrow has no jemalloc")
def test_jemalloc_is_taken() -> None:
    arrow_pool.take_from_jemalloc()
    assert backend() == "jemalloc"
    assert pa.array(range(1000)).to_pylist() == list(range(1000))


def test_who_has_chosen_keeps_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(arrow_pool.CHOICE, "system")
    arrow_pool.take_from_jemalloc()
    assert backend() == "system"


def test_an_arrow_without_jemalloc_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: ["mimalloc", "system"])
    arrow_pool.take_from_jemalloc()
    assert backend() == "system"
