"""Drift: what is called moved, and the measures against their definitions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from streamcore.quality.drift import DriftThresholds, drift_of
from tests.unit.quality.test_profile import profiled


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet("data/flights-200k.parquet")


def levels(drift):
    return {column.name: column.level for column in drift.columns}


def test_nothing_has_moved_from_itself(flights):
    profile = profiled(flights)
    drift = drift_of(profile, profile)
    assert drift.level == "ok"
    assert {column.psi for column in drift.columns} == {None, 0.0}


def test_another_half_of_the_year_is_much_the_same(flights):
    drift = drift_of(profiled(flights[:100_000]), profiled(flights[100_000:]))
    assert levels(drift) == dict.fromkeys(flights.columns, "ok")


def test_what_moves_is_named(flights):
    moved = flights[100_000:].select(
        "date",
        delay=pl.col("delay") + 20,
        distance=pl.col("distance").cast(pl.String),
        origin=pl.when(pl.col("origin") != "ORD").then("origin"),
        gate=pl.lit(1),
    )
    drift = drift_of(profiled(flights[:100_000]), profiled(moved))
    assert levels(drift) == {
        "date": "ok",
        "delay": "fail",
        "distance": "fail",
        "origin": "warn",
        "destination": "fail",
        "gate": "warn",
    }
    assert {column.name: column.change for column in drift.columns if column.change != "compared"} == {
        "distance": "type",
        "destination": "missing",
        "gate": "new",
    }
    assert all(column.reasons for column in drift.columns if column.level != "ok")


def test_the_index_of_few_rows_is_chance(flights):
    one, other = flights.sample(80, seed=1), flights.sample(80, seed=2)
    drift = drift_of(profiled(one), profiled(other))
    assert max(column.psi or 0 for column in drift.columns) > 0.25
    assert drift.level == "ok"


def test_the_index_is_that_of_its_definition():
    before, now = {"a": 600, "b": 300, "c": 100}, {"a": 300, "b": 300, "c": 300, "d": 100}
    drift = drift_of(profiled(of_counts(before)), profiled(of_counts(now)))
    p, q = (np.array([counts.get(name, 0) + 0.5 for name in "abcd"] + [0.5]) for counts in (before, now))
    p, q = p / p.sum(), q / q.sum()
    assert drift.columns[0].psi == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_the_distance_of_numbers_is_the_largest_difference_of_their_shares():
    random = np.random.default_rng(1)
    one, other = np.sort(random.normal(size=20_000)), np.sort(random.normal(0.3, size=20_000))
    places = np.concatenate([one, other])
    exact = np.abs(np.searchsorted(one, places, "right") - np.searchsorted(other, places, "right")).max()
    drift = drift_of(profiled(pl.DataFrame({"x": one})), profiled(pl.DataFrame({"x": other})))
    assert drift.columns[0].distance == pytest.approx(exact / 20_000, abs=0.005)


def test_a_number_that_most_rows_have_is_a_tenth_of_its_own():
    zeros = [0] * 9_000
    one = pl.DataFrame({"x": zeros + list(range(1, 1_001))})
    other = pl.DataFrame({"x": zeros[:6_000] + [n for n in range(1, 1_001) for _ in range(4)]})
    (column,) = drift_of(profiled(one), profiled(other)).columns
    assert column.level == "fail"
    assert column.distance == pytest.approx(0.3, abs=0.005)


def test_the_distance_of_values_is_one_where_they_have_none_in_common():
    drift = drift_of(profiled(of_counts({"a": 500})), profiled(of_counts({"b": 500})))
    assert drift.columns[0].distance == pytest.approx(1.0)
    assert drift.level == "fail"


def test_many_values_are_compared_by_those_that_both_name():
    counts = {f"v{n:03}": 1_000 - n for n in range(300)}
    profile = profiled(of_counts(counts))
    assert drift_of(profile, profile).columns[0].psi == 0.0


def test_thresholds_and_what_is_left_out(flights):
    before, now = profiled(flights[:100_000]), profiled(flights[100_000:].with_columns(pl.col("delay") + 20))
    assert drift_of(before, now, DriftThresholds(psi_fail=None)).level == "warn"
    assert drift_of(before, now, DriftThresholds(ignore=["delay"])).level == "ok"
    assert levels(drift_of(before, now, DriftThresholds(times=True)))["date"] == "fail"
    drift = drift_of(before, now, DriftThresholds(psi_warn=None, psi_fail=None, distance_fail=0.3))
    assert levels(drift)["delay"] == "fail"


def test_a_dataset_without_rows_has_not_moved(flights):
    assert drift_of(profiled(flights), profiled(flights.clear())).level == "ok"


def of_counts(counts: dict[str, int]) -> pl.DataFrame:
    return pl.DataFrame({"x": [value for value, count in counts.items() for _ in range(count)]})
