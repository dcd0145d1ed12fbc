"""The ledger: a commit never passes what any sink has not confirmed, and bytes come back exactly once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamcore.batch import PartitionId, RecordChunk
from streamcore.runtime.ledger import Ledger

P = PartitionId("t", 0, "id")


def chunk(first: int, count: int) -> RecordChunk:
    return RecordChunk(P, range(first, first + count), [b"x"] * count)


def test_the_position_is_that_of_the_slowest_sink() -> None:
    ledger = Ledger(1_000_000)
    ledger.open(P, {"a": 10, "b": 0})
    assert ledger.position(P) == 0
    ledger.took(chunk(0, 20))
    ledger.confirm("a", {P: 20})
    assert ledger.position(P) == 0
    assert ledger.laggards(P) == ["b"]
    ledger.confirm("b", {P: 15})
    assert ledger.position(P) == 15
    assert ledger.unconfirmed_bytes > 0
    ledger.confirm("b", {P: 20})
    assert ledger.unconfirmed_bytes == 0


def test_a_confirmation_never_moves_back_and_strangers_are_ignored() -> None:
    ledger = Ledger(1)
    ledger.open(P, {"a": 10})
    ledger.confirm("a", {P: 5, PartitionId("other", 0, "x"): 7})
    assert ledger.position(P) == 10
    assert ledger.position(PartitionId("other", 0, "x")) is None


def test_a_dropped_partition_gives_its_bytes_back() -> None:
    ledger = Ledger(1)
    ledger.open(P, {"a": 0})
    ledger.took(chunk(0, 3))
    assert ledger.full
    ledger.drop(P)
    assert not ledger.full


def test_what_all_sinks_have_does_not_count() -> None:
    """Nobody confirms it, so that its bytes would fill the ledger for good: a worker that waits for ever."""
    ledger = Ledger(1)
    ledger.open(P, {"a": 10, "b": 20})
    ledger.took(chunk(0, 10))
    assert not ledger.full
    ledger.took(chunk(10, 1))
    assert ledger.full
    ledger.confirm("a", {P: 11})
    assert ledger.unconfirmed_bytes == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100))))
def test_the_position_is_always_the_minimum(moves: list[tuple[str, int]]) -> None:
    ledger, model = Ledger(1 << 30), dict.fromkeys("abc", 0)
    ledger.open(P, model)
    for at in range(0, 100, 10):
        ledger.took(chunk(at, 10))
    for sink, position in moves:
        ledger.confirm(sink, {P: position})
        model[sink] = max(model[sink], position)
        assert ledger.position(P) == min(model.values())
        settled = min(model.values()) // 10
        assert ledger.unconfirmed_bytes == (10 - settled) * chunk(0, 10).nbytes
