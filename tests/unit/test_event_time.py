"""Event time and lateness."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.event_time import BEGINNING, END, as_event_time, judge, microseconds, shown_type

TIMES = st.lists(st.integers(-50, 50), max_size=30)


@given(TIMES, st.integers(0, 20), st.one_of(st.just(BEGINNING), st.integers(-60, 60)))
def test_a_row_is_late_when_its_time_is_before_the_watermark_that_held_when_it_came(times, lateness, start):
    watermark, late = start, []
    for time in times:
        late.append(time < watermark)
        watermark = max(watermark, time - lateness)
    judged = judge(np.array(times, np.int64), start, lateness)
    assert (judged.late.tolist(), judged.watermark) == (late, watermark)


@given(TIMES, st.integers(0, 20), st.integers(0, 30))
def test_lateness_is_judged_the_same_in_any_cut(times, lateness, cut):
    array = np.array(times, np.int64)
    whole = judge(array, BEGINNING, lateness)
    before = judge(array[:cut], BEGINNING, lateness)
    after = judge(array[cut:], before.watermark, lateness)
    assert whole.late.tolist() == [*before.late.tolist(), *after.late.tolist()]
    assert whole.watermark == after.watermark


def test_behind_the_end_everything_is_late():
    judged = judge(np.array([5, 1 << 61], np.int64), END, 0)
    assert judged.late.all()
    assert judged.watermark == END


MOMENT = dt.datetime(2026, 1, 1, 12, 30, 0, 123_000)


@pytest.mark.parametrize(("dtype", "value"), [
    (pl.Datetime("us"), MOMENT),
    (pl.Datetime("ms"), MOMENT),
    (pl.Datetime("ns"), MOMENT),
    (pl.Datetime("us", "Europe/Berlin"), MOMENT),
    (pl.Int64(), int(MOMENT.replace(tzinfo=dt.timezone.utc).timestamp() * 1000)),
])  # fmt: skip
def test_times_come_back_in_the_type_of_the_stream(dtype, value):
    series = pl.Series("t", [value, None], dtype=dtype, strict=False)
    micros = microseconds(series)
    assert micros.dtype == pl.Int64
    back = pl.DataFrame({"t": micros}).select(as_event_time(pl.col("t"), dtype))["t"]
    assert back.to_list() == series.to_list()
    assert back.dtype == shown_type(dtype) == dtype


def test_dates_begin_at_midnight_and_windows_of_them_show_instants():
    micros = microseconds(pl.Series([dt.date(1970, 1, 2)]))
    assert micros.to_list() == [86_400_000_000]
    shown = pl.DataFrame({"t": micros}).select(as_event_time(pl.col("t"), pl.Date()))["t"]
    assert shown.to_list() == [dt.datetime(1970, 1, 2)]
    assert shown.dtype == shown_type(pl.Date()) == pl.Datetime("us")


@pytest.mark.parametrize("value", [1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63)])
def test_times_farther_than_microseconds_reach_are_none(value):
    assert microseconds(pl.Series([value, 0], dtype=pl.Int64)).to_list() == [None, 0]


def test_integers_are_milliseconds_rounded_down():
    shown = pl.DataFrame({"t": [-1, 1_999]}).select(as_event_time(pl.col("t"), pl.Int64()))["t"]
    assert shown.to_list() == [-1, 1]
