"""The oracle of windows says what must come out, and is right about each way to break it."""

from __future__ import annotations

import random

import orjson
import pytest

from tests.faults.journal import difference, digest_of
from tests.faults.window_oracle import LATENESS, SIZE, Expected, Fed, Seen, expected
from tests.faults.window_rows import WindowMaker

FAR = Fed("far", 10_000_000, "a", 1)
SHOPS = [("a", 0, SIZE, 2, 5), ("b", 0, SIZE, 1, 4), ("a", 1000, 2000, 1, 7)]
WANTED = Expected({(s, start): (n, total) for s, start, _, n, total in SHOPS}, {0: (3, 4)}, {"l"})
GOOD = Seen(SHOPS, [(0, 10_000, 3, 4)], ["l"])


def test_windows_of_all_partitions_are_one_and_lateness_is_each_partitions_own() -> None:
    first = [Fed("1", 0, "a", 2), Fed("2", LATENESS + 1, "a", 7), Fed("late", 0, "a", 9), FAR]
    second = [Fed("3", 999, "a", 3), Fed("4", 999, None, 4), Fed("5", 1000, "a", 1), FAR]
    found = expected([first, second])
    assert found.late == {"late"}
    assert found.shops == {
        ("a", 0): (2, 5),
        (None, 0): (1, 4),
        ("a", 1000): (1, 1),
        ("a", 10_000): (1, 7),
    }
    assert found.spans == {0: (3, 4), 10_000: (1, 1)}


def test_a_row_at_the_watermark_is_not_late_and_closes_a_window_that_ends_there() -> None:
    rows = [Fed("1", 0, "a", 1), Fed("2", LATENESS + SIZE, "a", 1), Fed("3", SIZE, "a", 1)]
    assert expected([rows]).late == set()
    assert expected([rows]).shops == {("a", 0): (1, 1)}
    assert expected([[*rows, Fed("4", SIZE - 1, "a", 1)]]).late == {"4"}
    assert len(expected([rows], ended=True).shops) == 3


def test_a_partition_that_stays_behind_keeps_windows_open() -> None:
    assert expected([[Fed("1", 0, "a", 1), FAR], [Fed("2", 0, "a", 1)]]).shops == {}


def test_what_is_right_is_not_broken() -> None:
    assert WANTED.broken(GOOD) == []
    assert WANTED.broken(Seen(SHOPS[:1], [], []), whole=False) == []


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (GOOD._replace(shops=SHOPS[1:]), "windows: lost 1"),
        (GOOD._replace(shops=[SHOPS[0], *SHOPS]), "windows: doubled 1"),
        (GOOD._replace(shops=[*SHOPS, ("z", 0, 1000, 1, 1)]), "windows: invented 1"),
        (GOOD._replace(shops=[("a", 0, 1000, 3, 5), *SHOPS[1:]]), "windows: altered 1"),
        (GOOD._replace(shops=[("a", 0, 999, 2, 5), *SHOPS[1:]]), "1 windows end elsewhere"),
        (GOOD._replace(shops=SHOPS[::-1]), "1 windows came after a later one"),
        (GOOD._replace(spans=[]), "spans: lost 1"),
        (GOOD._replace(spans=[(0, 10_000, 3, 5)]), "spans: altered 1"),
        (GOOD._replace(late=[]), "late rows: lost 1"),
        (GOOD._replace(late=["l", "l"]), "late rows: doubled 1"),
        (GOOD._replace(late=["l", "m"]), "late rows: invented 1"),
    ],
)
def test_each_broken_promise_is_told(seen: Seen, told: str) -> None:
    assert told in " ".join(WANTED.broken(seen))


def test_a_look_between_may_hold_less_but_nothing_else() -> None:
    assert difference("rows", {1: "a", 2: "b"}, [(1, "a")], whole=False) == ""
    assert "altered" in difference("rows", {1: "a"}, [(1, "b")], whole=False)


def test_rows_have_the_fate_that_they_were_made_for() -> None:
    maker = WindowMaker(random.Random(1), future=True)
    made = maker.make(5_000)
    rows = [Fed.of(one.value) for one in made if one.row.fate != "dead"] + [Fed.of(maker.last()[0].value)]
    fates = {
        name: {one.row.id for one in made if one.row.fate == name} for name in ("effect", "late", "dead")
    }
    found = expected([rows])
    assert fates["late"] <= found.late
    assert not fates["effect"] & found.late
    assert min(map(len, fates.values())) > 50
    assert all(one.row.digest == digest_of(one.value) for one in made)
    assert sum(n for n, _ in found.shops.values()) + len(found.late) + len(fates["dead"]) == len(made)
    assert orjson.loads(made[0].value)["shop"] != orjson.loads(made[0].value)["key"]
