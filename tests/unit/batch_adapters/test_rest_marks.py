"""Marks of rows: what is new, from where on to ask, and what must be remembered for that."""

from __future__ import annotations

from decimal import Decimal

import pytest

from batch_adapters.rest_marks import MOST_KNOWN, Lag, Seen, mark_of
from streamcore.errors import BadConfig, Permanent


@pytest.mark.parametrize(
    ("value", "lag", "asked"),
    [
        ("2026-11-29T05:00:00Z", None, "2026-11-29T04:59:00Z"),
        ("2026-11-29T05:00:00.250+02:00", "1s", "2026-11-29T04:59:59.250000+02:00"),
        ("2026-11-29 05:00:00", "2h", "2026-11-29T03:00:00"),
        ("2026-11-29", None, "2026-11-28"),
        ("2026-11-29T05:00:00Z", "0s", "2026-11-29T05:00:00Z"),
        (17, None, 17),
        (17, "5", 12),
        ("0017", "5", "12"),
        (17.5, "0.5", 17.0),
        ("1700000000.123456", None, "1700000000.123456"),
        ("1700000000.123456", "0.5", "1699999999.623456"),
        ("-5", "2", "-7"),
        ("v1.7", None, "v1.7"),
    ],
)
def test_asked_is_from_a_lag_behind_the_highest_mark(value: object, lag: str | None, asked: object) -> None:
    assert Lag.of(lag).behind(mark_of(value, "x")).value == asked


def test_a_number_as_text_is_compared_exactly_as_a_number() -> None:
    """A time that has its digits would be another value to the server, and a float would lose some."""
    marks = ["-5", "9", "9.5", "10.25", "1700000000.123456", "1700000000123456789.5", "1700000000123456790"]
    orders = [mark_of(value, "x").order for value in marks]
    assert orders == sorted(orders, key=lambda order: Decimal(str(order)))
    assert len({str(order) for order in orders}) == len(orders)
    found = seen("0")
    assert all(found.is_new(value.encode(), value) for value in marks)
    assert mark_of("\N{SUPERSCRIPT TWO}", "x").order == "\N{SUPERSCRIPT TWO}", "a digit that is no number"


@pytest.mark.parametrize("value", [None, True, "", {}, []])
def test_what_is_no_mark(value: object) -> None:
    with pytest.raises(Permanent, match="no mark"):
        mark_of(value, "https://api/x")


def test_a_lag_is_a_duration_or_a_number() -> None:
    with pytest.raises(BadConfig, match="no duration"):
        Lag.of("soon")


def seen(lag: str = "10", **more: object) -> Seen:
    return Seen(Lag.of(lag), "https://api/x")


def test_of_the_rows_within_the_lag_each_is_given_once_and_one_that_changed_again() -> None:
    found = seen()
    assert [found.is_new(b"%d" % n, n) for n in (1, 20, 15)] == [True] * 3
    found.end()
    assert found.since is not None
    assert found.since.value == 10
    assert [found.is_new(b"%d" % n, n) for n in (20, 15, 12, 12)] == [False, False, True, False]
    assert found.is_new(b"15, changed", 15)
    assert not found.is_new(b"1", 1), "the server gives more than it was asked for"


def test_what_a_later_page_may_bring_again_is_known_until_the_round_is_over() -> None:
    """The newest row comes first, and moves the mark far on: those of the last round are still known."""
    found = seen()
    found.is_new(b"20", 20)
    found.end()
    found.is_new(b"900", 900)
    found.turn()
    assert not found.is_new(b"20", 20)
    found.end()
    assert set(found.before.values()) == {900}


def test_a_bookmark_holds_all_of_it() -> None:
    found = seen()
    for n in range(20):
        found.is_new(b"%d" % n, n)
    found.end()
    found.is_new(b"late", 15)
    later = Seen.unpack(Lag.of("10"), "x", *found.pack())  # type: ignore[arg-type]
    assert later.since == found.since
    assert later.top == found.top
    assert not any(later.is_new(b"%d" % n, n) for n in range(20))
    assert not later.is_new(b"late", 15)
    assert later.is_new(b"later", 15)


def test_too_much_to_be_remembered_is_an_error_with_the_way_out() -> None:
    found = seen()
    for n in range(MOST_KNOWN + 1):
        found.is_new(b"%d" % n, 1)
    with pytest.raises(Permanent, match=r"within the lag.*lag="):
        found.turn()


def test_marks_of_several_kinds_are_an_error() -> None:
    found = seen()
    found.is_new(b"1", 1)
    with pytest.raises(Permanent, match="several kinds"):
        found.is_new(b"2", "2026-11-29T05:00:00Z")
    times = seen("1h")
    assert times.is_new(b"a", "2026-11-29T05:00:00.5Z")
    assert times.is_new(b"b", "2026-11-29T06:00:01+01:00")
    assert times.top is not None
    assert times.top.value == "2026-11-29T06:00:01+01:00", "times, not texts, are compared"
