"""Streams whose event time is the record's time stamp, or the clock when a row is read."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing import TopologyDriver
from tests.unit.topology.collecting import Collect

COLUMNS = {"user": "string"}


def driver_of(event_time: object, partitions: int = 1) -> TopologyDriver:
    topology = sc.Topology("t")
    clicks = topology.stream("clicks", COLUMNS, event_time=event_time)  # type: ignore[arg-type]
    clicks.to(Collect("rows"))
    clicks.window(sc.tumbling("10s")).by("user").aggregate(n="count(*)").to(Collect("windows"))
    return TopologyDriver(topology, now=100.0, partitions=partitions)


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def test_windows_by_the_time_stamps_of_records():
    driver = driver_of(sc.RECORD_TIME)
    driver.push("clicks", [{"user": "a"}, {"user": "a"}])
    driver.advance(10.5)
    driver.push("clicks", [{"user": "b"}])
    assert [row["record_time"] for row in driver.rows("rows")] == [at(100), at(100), at(110.5)]
    assert driver.rows("windows") == [{"user": "a", "window_start": at(100), "window_end": at(110), "n": 2}]


def test_rows_of_files_have_no_record_time_and_belong_to_no_window():
    driver = driver_of(sc.RECORD_TIME)
    driver.push("clicks", pl.DataFrame({"user": ["a"]}))
    assert [row.code for row in driver.dead_letters] == ["no_time"]
    assert driver.rows("rows") == [{"user": "a", "record_time": None}]


def test_windows_by_the_clock_close_when_it_has_passed_them():
    driver = driver_of(sc.PROCESSING_TIME, partitions=2)
    driver.push("clicks", [{"user": "a"}, {"user": "b"}], partition=1)
    driver.push("clicks", pl.DataFrame({"user": ["a"]}))
    driver.advance(9.9)
    driver.push("clicks", [{"user": "a"}])
    assert driver.rows("windows") == []
    driver.advance(0.1)
    assert [(row["user"], row["n"]) for row in driver.rows("windows")] == [("a", 3), ("b", 1)]


def test_a_row_keeps_its_processing_time_after_a_crash():
    driver = driver_of(sc.PROCESSING_TIME)
    driver.push("clicks", [{"user": "a"}])
    driver.advance(5)
    driver.push("clicks", [{"user": "a"}])
    driver.now = 115.0  # the worker was down for a while
    driver.crash()
    driver.advance(1)
    assert [(row["window_start"], row["n"]) for row in driver.rows("windows")] == [(at(100), 2)]


def test_a_clock_that_goes_back_makes_no_row_late():
    driver = driver_of(sc.PROCESSING_TIME)
    driver.push("clicks", [{"user": "a"}])
    driver.now = 50.0
    driver.push("clicks", [{"user": "a"}])
    driver.end()
    assert [(row["window_start"], row["n"]) for row in driver.rows("windows")] == [(at(100), 2)]


@pytest.mark.parametrize(("given", "message"), [
    ({"event_time": sc.PROCESSING_TIME, "max_lateness": "1s"}, "no row is late"),
    ({"event_time": "usr"}, "usr"),
    ({"event_time": "user"}, "must be a time"),
])  # fmt: skip
def test_times_that_make_no_sense_are_refused(given, message):
    with pytest.raises(BadConfig, match=message):
        sc.Topology("t").stream("clicks", COLUMNS, **given)


def test_the_events_have_no_column_with_the_clocks_name():
    with pytest.raises(BadConfig, match="name of its time"):
        sc.Topology("t").stream("clicks", {"record_time": "int64"}, event_time=sc.RECORD_TIME)
