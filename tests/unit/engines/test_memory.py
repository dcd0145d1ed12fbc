"""Reading waits before the limit of memory is reached, and never for good."""

from __future__ import annotations

import pytest

from streamcore.engines.memory import MemoryGate, shares
from streamcore.errors import BadConfig

GB = 10**9


def test_reading_waits_until_there_is_room() -> None:
    taken = iter([1.95, 1.9, 1.85, 1.7])
    naps: list[float] = []
    gate = MemoryGate(2 * GB, lambda: int(next(taken) * GB), naps.append)
    gate.pass_through()
    assert len(naps) == 3
    assert gate.waited == pytest.approx(sum(naps))
    assert gate.peak == int(1.95 * GB)


def test_reading_goes_on_slowly_when_the_memory_is_anothers() -> None:
    naps: list[float] = []
    gate = MemoryGate(2 * GB, lambda: 3 * GB, naps.append)
    gate.pass_through()
    assert 0.9 < sum(naps) < 1.1


def test_without_a_limit_it_only_looks() -> None:
    gate = MemoryGate(None, lambda: 3 * GB, lambda seconds: pytest.fail("it waits"))
    gate.pass_through()
    assert gate.peak == 3 * GB


def test_what_is_left_of_the_limit_is_shared_out() -> None:
    small, large = shares(GB, lambda: GB // 5), shares(16 * GB, lambda: GB // 5)
    assert small["memory_mb"] << 20 <= 0.8 * GB / 4 < large["memory_mb"] << 20
    assert small["fetch_max_bytes"] <= large["fetch_max_bytes"] == 8 << 20
    with pytest.raises(BadConfig, match=r"leaves no room.*got '220MB'; give 3..MB or more"):
        shares(220 * 10**6, lambda: 200 * 10**6)
