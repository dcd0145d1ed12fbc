"""Profiles: what they say of columns, against polars over all rows."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from streamcore.batch import hide
from streamcore.quality.column_state import ColumnState
from streamcore.quality.frequent import MOST
from streamcore.quality.profile import Profile, profile_of
from streamcore.quality.profile_state import ProfileState

AT = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


def profiled(frame: pl.DataFrame, rows: int = 50_000, secret: tuple[str, ...] = ()) -> Profile:
    """The profile of *frame*, read in batches of *rows*."""
    hidden = hide(frame, np.arange(frame.height, dtype=np.int64))
    state = ProfileState.empty(frame.schema, secret)
    for at in range(0, frame.height, rows):
        state = state.merge(ProfileState.of(hidden[at : at + rows], secret=secret))
    return profile_of(state, "test", AT)


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet("data/flights-200k.parquet")


def test_numbers_are_those_of_all_rows(flights):
    found = profiled(flights).column("delay")
    delay = flights["delay"]
    numbers = found.numbers
    assert (found.count, found.nulls, found.kind, found.type) == (200_000, 0, "number", "int64")
    assert (found.distinct, found.distinct_exact) == (delay.n_unique(), True)
    assert (numbers.min, numbers.max) == (delay.min(), delay.max())
    assert numbers.mean == pytest.approx(delay.mean())
    assert numbers.deviation == pytest.approx(delay.std())
    for name, value in numbers.quantiles.items():
        exact = delay.quantile(float(name), "lower")
        assert value == pytest.approx(exact, rel=1 / 128, abs=0.5)


def test_frequent_values_are_exact_while_they_are_few(flights):
    found = profiled(flights).column("origin")
    best = flights["origin"].value_counts(sort=True).sort(["count", "origin"], descending=[True, False])
    assert [(top.value, top.count) for top in found.top[:20]] == list(best.head(20).iter_rows())


def test_of_many_values_the_frequent_ones_are_estimated():
    often = ["page-1"] * 20_000 + ["page-2"] * 5_000
    rare = [f"other-{n}" for n in range(75_000)]
    pages = pl.DataFrame({"page": pl.Series([*often, *rare]).shuffle(seed=1)})
    found = profiled(pages).column("page")
    assert not found.distinct_exact
    assert found.distinct == pytest.approx(75_002, rel=0.03)
    assert [top.value for top in found.top] == ["page-1", "page-2"]
    assert found.top[0].count == pytest.approx(20_000, rel=0.25)


def test_memory_is_bounded_by_design():
    """A column of nothing but different long texts keeps no text but those of the sample."""
    state = ColumnState.of(pl.Series([f"{n}" * 50 for n in range(50_000)]))
    assert state.frequent.counts is None
    assert len(state.registers) <= 1 << 14
    assert len(state.lengths.buckets) < 1_000


@pytest.mark.parametrize("more", [0, 1])
def test_values_are_counted_one_by_one_up_to_a_number(more):
    state = ColumnState.of(pl.Series(range(MOST + more)))
    assert state.exact is (more == 0)
    assert state.distinct == pytest.approx(MOST + more, rel=0.03)


def test_times_have_bounds_and_bars_of_whole_days(flights):
    found = profiled(flights).column("date")
    assert (found.times.min, found.times.max) == ("2001-01-01T00:01:00", "2001-06-30T23:58:00")
    day = 86_400_000_000
    assert all(edge % day == 0 for edge in found.histogram.edges[1:-1])
    assert sum(found.histogram.counts) == 200_000
    starts = flights["date"].dt.epoch("us").to_numpy()
    exact, _ = np.histogram(starts, found.histogram.edges)
    assert np.abs(exact - np.array(found.histogram.counts)).max() < 2_000  # spans are 9 hours long


def test_histograms_count_what_lies_between_their_edges(flights):
    found = profiled(flights).column("delay").histogram
    exact, _ = np.histogram(flights["delay"].to_numpy(), found.edges)
    assert sum(found.counts) == 200_000
    assert (
        np.abs(exact - np.array(found.counts)).max() <= 20
    )  # a bucket of 128 and more holds several numbers


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pl.Series([True, False, None, True]), "boolean"),
        (pl.Series([1.5, float("nan"), float("inf"), None, -0.0, 0.0]), "number"),
        (pl.Series([dt.date(2024, 1, 1), None]), "time"),
        (pl.Series([dt.time(1, 2), None]), "time"),
        (pl.Series([dt.timedelta(hours=2), None]), "time"),
        (pl.Series([b"ab", None]), "other"),
        (pl.Series([[1, 2], None, []]), "other"),
        (pl.Series([{"a": 1}, None]), "other"),
        (pl.Series([None, None], dtype=pl.Int64), "number"),
        (pl.Series([None, None], dtype=pl.Null), "other"),
        (pl.Series(["a", None], dtype=pl.Categorical), "text"),
        (pl.Series(["1.25", None]).cast(pl.Decimal(10, 2)), "number"),
        (pl.Series([2**63, None], dtype=pl.UInt64), "number"),
        (pl.Series([2**100, None], dtype=pl.Int128), "number"),
        (pl.Series([1e308, -1e308, 1e308, None]), "number"),
        (pl.Series([5e-324, 0.0, None]), "number"),
        (pl.Series([dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)]), "time"),
        (pl.Series([object(), None], dtype=pl.Object), "other"),
        (pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), "other"),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pl.Series) else value,
)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_all_types(values, kind, rows):
    frame = values.alias("x").to_frame()
    found = profiled(frame, rows).column("x")
    assert (found.kind, found.count, found.nulls) == (kind, frame["x"].count(), frame["x"].null_count())
    assert Profile.model_validate_json(profiled(frame, rows).model_dump_json()) == profiled(frame, rows)


def test_columns_may_have_the_names_that_states_use():
    rows = ["a"] * 3_000 + [str(n) for n in range(5_000)]
    frame = pl.DataFrame(dict.fromkeys(("value", "count", "_hash", "literal", "x"), rows))
    found = profiled(frame)
    assert len({repr(column.top) for column in found.columns}) == 1


def test_no_rows():
    found = profiled(pl.DataFrame(schema={"n": pl.Int64, "s": pl.String}))
    assert found.rows == 0
    assert (found.column("n").numbers, found.column("n").histogram, found.column("s").distinct) == (
        None,
        None,
        0,
    )


def test_secret_values_are_nowhere():
    frame = pl.DataFrame({"id": [1, 2], "token": ["hunter2", "hunter3"]})
    found = profiled(frame, secret=("token",))
    assert "hunter" not in found.model_dump_json()
    assert found.column("token").hidden
    assert found.column("token").distinct == 2
