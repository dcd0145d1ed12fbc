"""The oracle of tables and joins says what must come out, and is right about each way to break it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.faults.tables_oracle import TablesMaker, There, wanted_of
from tests.faults.tables_runs import update_repeats


def row(name: str, kind: str, at: int, **other: Any) -> dict[str, Any]:
    return {"id": name, "kind": kind, "at": at, "key": "k1", "shop": "s1", "deal": "d2", "n": 4, **other}


WANTED = wanted_of(
    {
        0: [
            row("p1", "price", 0, n=1),
            row("o1", "order", 0),
            row("p2", "price", 1, n=2),
            row("o2", "order", 1_000),
            row("o3", "order", 0, deal="d3", key="k2"),
        ],
        1: [
            row("pay1", "payment", 5_000, shop="s2", n=3),
            row("pay2", "payment", 5_001),
            row("pay0", "payment", -1),
        ],
    }
)
GOOD: dict[str, list[tuple[Any, ...]]] = {
    "totals": [("s1", 7, 23), ("s2", 1, 3)],
    "thirds": [("s1", 7, 23)],
    "pairs": [("o1", "pay1"), ("o2", "pay1"), ("o2", "pay2")],
    "priced": [("o1", None), ("o2", 2), ("o3", None)],
    "found": [(name, None if name == "o3" else "label 2") for name in WANTED.labels],
}


def test_what_is_right_is_not_broken() -> None:
    assert WANTED.broken(GOOD) == []
    assert WANTED.broken({**GOOD, "totals": [("s1", 3, 9)], "pairs": [], "found": []}, whole=False) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"totals": [("s1", 8, 23), ("s2", 1, 3)]}, "totals: altered 1"),
        ({"totals": [("s1", 7, 23)]}, "totals: lost 1"),
        ({"thirds": GOOD["totals"]}, "thirds: invented 1"),
        ({"pairs": GOOD["pairs"][1:]}, "pairs: lost 1"),
        ({"pairs": [*GOOD["pairs"], ("o1", "pay1")]}, "pairs: doubled 1"),
        ({"pairs": [*GOOD["pairs"], ("o1", "pay2")]}, "pairs: invented 1"),
        ({"priced": [("o1", 1), ("o2", None), ("o3", None)]}, "1 orders found an older row or none"),
        ({"priced": [("o1", 3), ("o2", 3), ("o3", None)]}, "2 orders found an older row or none"),
        ({"priced": GOOD["priced"][:2]}, "orders: lost 1"),
        ({"found": [("o1", None), *GOOD["found"][2:]]}, "lookups: lost 1"),
    ],
)
def test_each_broken_promise_is_told(changed: There, told: str) -> None:
    assert any(told in text for text in WANTED.broken({**GOOD, **changed})), WANTED.broken(
        {**GOOD, **changed}
    )


def test_a_table_that_counts_more_than_there_is_is_told_in_any_look() -> None:
    assert WANTED.broken({**GOOD, "totals": [("s1", 8, 23)]}, whole=False)


def test_an_update_that_comes_again_is_told_and_a_row_may_come_back() -> None:
    first, second = {"counted": 1}, {"counted": 2}
    assert update_repeats("t", [(b"a", first), (b"b", first), (b"a", None), (b"a", second)]) == []
    assert update_repeats("t", [(b"a", first), (b"a", None), (b"a", first)])


def test_the_made_rows_have_pairs_and_prices_that_rise() -> None:
    maker = TablesMaker(random.Random(1))
    made = maker.make(3_000)
    wanted = wanted_of({0: list(maker.effects.values())})
    assert len(wanted.pairs) > 500
    assert {one.row.fate for one in made} == {"effect", "dead"}
    assert all(sorted(numbers)[0] > 0 for numbers in wanted.versions.values())
