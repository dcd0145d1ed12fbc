"""Up to which key a table may be read while others write to it: what is committed late is not passed over."""

from __future__ import annotations

import random

import pytest

from batch_adapters.marks import Look, Settling


def test_a_key_is_settled_when_it_has_been_seen_for_long_enough() -> None:
    settling = Settling(2.0)
    assert settling.see(Look(("5", "1"), now=10.0)) is None
    assert settling.see(Look(("7", "1"), now=11.9)) is None
    assert settling.see(Look(("7", "1"), now=12.0)) == ("5", "1")
    assert settling.see(Look(("7", "1"), now=13.9)) == ("7", "1")


def test_a_table_without_rows_has_none() -> None:
    settling = Settling(0.0)
    assert settling.see(Look(None, now=1.0)) is None
    assert settling.see(Look(("1",), now=2.0)) == ("1",)
    assert settling.see(Look(None, now=3.0)) == ("1",)


def test_every_transaction_that_was_open_must_have_ended() -> None:
    """Number 7 is open while rows of 8 are seen: its own may have a lower mark."""
    settling = Settling(0.0)
    assert settling.see(Look(("5",), now=1.0, ended=7, next=9)) is None
    assert settling.see(Look(("6",), now=9.0, ended=7, next=12)) is None
    assert settling.see(Look(("6",), now=9.5, ended=9, next=12)) == ("5",)
    assert settling.see(Look(("6",), now=9.9, ended=12, next=12)) == ("6",)


def test_one_that_has_not_written_yet_is_waited_for_by_its_beginning() -> None:
    settling = Settling(0.0)
    assert settling.see(Look(("5",), now=10.0, open_since=9.0)) is None
    assert settling.see(Look(("5",), now=11.0, open_since=10.5)) == ("5",)


def test_a_long_transaction_does_not_fill_the_memory() -> None:
    settling = Settling(0.0)
    for second in range(5000):
        assert settling.see(Look((str(second),), now=float(second), ended=1, next=second + 2)) is None
    assert len(settling._candidates) == 100
    settling.see(Look(("5000",), now=5000.0, ended=6000, next=6000))
    assert settling.see(Look(("5000",), now=5000.0, ended=6000, next=6000)) == ("5000",)


@pytest.mark.parametrize("seed", range(30))
def test_in_any_order_of_commits_each_row_is_below_what_is_settled_behind_it(seed: int) -> None:
    """A played database: marks are when a transaction began, commits come in any order."""
    rng = random.Random(seed)
    settling, running, rows = Settling(0.0), dict[int, float](), list[float]()
    read, number, behind = list[float](), 0, -1.0
    for second in range(300):
        now = float(second)
        if rng.random() < 0.5:
            number += 1
            running[number] = now
        if running and rng.random() < 0.5:
            rows.append(running.pop(rng.choice(list(running))))
        ended = min(running, default=number + 1)
        top = max(rows, default=None)
        look = Look(None if top is None else (f"{top}",), now, ended, number + 1)
        if (until := settling.see(look)) is not None:
            read += sorted(row for row in rows if behind < row <= float(until[0]))
            behind = max(behind, float(until[0]))
    assert read == sorted(row for row in rows if row <= behind), "in order, and none passed over"
    assert len(read) > 30
