"""Laws of quality's states: any cut, and any order of merging, gives what all rows at once give."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import reduce

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import hide
from streamcore.quality import frequent, row_sample, spans
from streamcore.quality.numbers import Numbers
from streamcore.quality.profile_state import ProfileState
from streamcore.quality.rule_counts import RuleChecks, RuleCounts
from streamcore.quality.spans import Spans
from streamcore.quality.timeliness import Ages, Aging
from streamcore.validation import rules

COLUMNS = pl.Schema({"n": pl.Int64, "s": pl.String})
RULES = [
    rules.not_null("n", severity="warning"),
    rules.range("n", min=-3, max=3),
    rules.email("s"),
    rules.length("s", max=6),
    rules.expression("n > 0"),
]
row = st.tuples(st.none() | st.integers(-5, 5), st.sampled_from([None, "", "a@b.co", "@", "7", "1234567"]))
tables = st.lists(row, max_size=40)


def cuts(draw: st.DrawFn, frame: pl.DataFrame) -> list[pl.DataFrame]:
    """*frame* in pieces, some of which may be empty, in any order."""
    ends = sorted(draw(st.lists(st.integers(0, frame.height), max_size=4)))
    pieces = [frame[a:b] for a, b in zip([0, *ends], [*ends, frame.height], strict=True)]
    return draw(st.permutations(pieces))


@settings(deadline=None)
@given(st.data(), tables)
def test_rule_counts(data: st.DataObject, given_rows: list[tuple[int | None, str | None]]) -> None:
    frame = hide(pl.DataFrame(given_rows, schema=COLUMNS, orient="row"), np.arange(len(given_rows)))
    checks = RuleChecks.of(RULES, COLUMNS, samples=3)
    pieces = [checks.count(piece) for piece in cuts(data.draw, frame)]
    assert reduce(RuleCounts.merge, pieces, RuleCounts(most=3)) == RuleCounts().merge(checks.count(frame))


values = {
    pl.Int64(): st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    pl.Float64(): st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0]),
    pl.String(): st.text(max_size=4) | st.just("x" * 300),
    pl.Datetime("us"): st.datetimes(),
    pl.Boolean(): st.booleans(),
}


@settings(deadline=None)
@given(st.data(), st.sampled_from(list(values)))
def test_profiles(data: st.DataObject, dtype: pl.DataType) -> None:
    rows = data.draw(st.lists(st.none() | values[dtype], max_size=40))
    frame = hide(pl.DataFrame({"x": pl.Series(rows, dtype=dtype)}), np.arange(len(rows)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(frequent, "MOST", 6)
        patched.setattr(row_sample, "MOST", 5)
        patched.setattr(spans, "MOST", 4)
        pieces = [ProfileState.of(piece) for piece in cuts(data.draw, frame)]
        together = reduce(ProfileState.merge, pieces, ProfileState.empty(pl.Schema({"x": dtype})))
        whole = ProfileState.of(frame)
        assert described(together) == described(whole, pytest.approx)


def described(
    state: ProfileState, near: Callable[..., object] = lambda value, **_: value
) -> dict[str, object]:
    """All that *state* holds; floats that were added up in another order are only *near*."""
    column, found = state.columns["x"], {}
    for name, numbers in (("numbers", column.numbers), ("lengths", column.lengths)):
        if numbers is not None:
            found[name] = [
                (numbers.count, numbers.not_finite, numbers.least, numbers.largest),
                (numbers.buckets.tolist(), numbers.counts.tolist()),
                near([numbers.mean, numbers.squares], rel=1e-6, abs=1e-6 * spread(numbers)),
            ]
    if column.spans is not None:
        times = column.spans
        found["spans"] = [
            times.bits,
            times.least,
            times.largest,
            times.places.tolist(),
            times.counts.tolist(),
        ]
    counts = column.frequent.counts
    return {
        **found,
        "rows": (state.rows, column.nulls, column.count, column.distinct),
        "registers": column.registers.to_list(),
        "frequent": None if counts is None else repr(counts.rows()),
        "sample": repr(state.sample.rows.rows()),
    }


def spread(numbers: Numbers) -> float:
    return max(abs(numbers.least), abs(numbers.largest)) ** 2 * numbers.count if numbers.count else 0.0


instants = st.lists(st.integers(-(2**40), 2**40) | st.integers(-20, 20), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.lists(instants, min_size=2, max_size=4))
def test_spans(pieces: list[list[int]]) -> None:
    def of(times: list[int]) -> Spans:
        each = sorted(set(times))
        counts = pl.Series([times.count(time) for time in each], dtype=pl.Int64)
        return Spans.of(pl.Series(each, dtype=pl.Datetime("us")), counts)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spans, "MOST", 4)
        together, whole = (
            reduce(Spans.merge, map(of, pieces)),
            of([time for piece in pieces for time in piece]),
        )
    assert (together.bits, together.least, together.largest) == (whole.bits, whole.least, whole.largest)
    assert together.places.tolist() == whole.places.tolist()
    assert together.counts.tolist() == whole.counts.tolist()
    assert len(whole.places) <= 4


aged = st.lists(st.none() | st.datetimes(dt.datetime(2023, 1, 1), dt.datetime(2025, 1, 1)), max_size=20)


@settings(deadline=None)
@given(st.data(), aged)
def test_ages(data: st.DataObject, times: list[dt.datetime | None]) -> None:
    aging = Aging("at", dt.timedelta(days=30), dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc))
    frame = pl.DataFrame({"at": pl.Series(times, dtype=pl.Datetime("us"))})
    assert reduce(Ages.merge, [aging.of(piece) for piece in cuts(data.draw, frame)], Ages()) == aging.of(
        frame
    )
