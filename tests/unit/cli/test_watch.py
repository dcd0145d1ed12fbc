"""Progress: the rate and the time left, one log line every ten seconds, a display on a terminal."""

import io
import logging

import pytest
from rich.console import Console

from streamcore.cli.console import count, duration, short, size
from streamcore.cli.watch import Pace, View, watch
from streamcore.progress import Progress, Rejected, SplitProgress


def at(seconds, rows, *, position=None, size=1000, **more):
    splits = () if position is None else (SplitProgress("flights", "f.parquet", position, size),)
    return Progress(rows_in=rows, bytes_in=rows * 100, elapsed=seconds, splits=splits, **more)


def test_the_rate_is_that_of_the_last_seconds():
    pace = Pace()
    for second in range(21):
        pace.add(at(second, 1000 * min(second, 10)))  # 10 s at 1000 rows/s, then a stop
    assert pace.rows_per_second == 0


def test_the_time_left_follows_from_the_headway_of_this_run():
    pace = Pace()
    pace.add(at(0, 0, position=500))  # a resumed replay begins in the middle
    pace.add(at(2, 10, position=600))
    assert pace.seconds_left == pytest.approx(8)


@pytest.mark.parametrize(
    "snapshots", [[at(0, 0)], [at(0, 0, position=1), at(1, 0, position=1)], [at(1, 5, position=5, size=None)]]
)
def test_the_time_left_is_unknown_without_a_size_or_headway(snapshots):
    pace = Pace()
    for snapshot in snapshots:
        pace.add(snapshot)
    assert pace.seconds_left is None


def test_elsewhere_than_on_a_terminal_there_is_a_line_every_ten_seconds(caplog):
    caplog.set_level(logging.INFO, "streamcore.progress")
    with watch("flights", Console(file=io.StringIO(), force_terminal=False)) as show:
        for tick in range(151):  # 30 s, five a second
            show(at(tick / 5, tick * 100, position=tick, rejected={Rejected("decode", "json"): 2}))
    assert [r.message for r in caplog.records] == ["replaying"] * 4  # at 0, 10, 20 and 30 s
    second = vars(caplog.records[1])
    assert (second["topology"], second["rows"], second["rows_per_second"]) == ("flights", 5000, 500)
    assert (second["bytes"], second["dead_letters"]) == (500_000, 2)
    assert (second["done"], second["left"]) == ("5%", "3:10")


def test_on_a_terminal_it_shows_streams_counters_and_dead_letters():
    view = View("replaying flights")
    splits = (
        SplitProgress("a", "1", 10, 10),
        SplitProgress("a", "2", 5, 10),
        SplitProgress("b", "1", 7, None),
    )
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    progress = Progress(1_234_567, 98_000_000, elapsed=2.0, splits=splits, rejected={Rejected("x", "y"): 3})
    console.print(view.render(progress))
    text = console.file.getvalue()
    for shown in (
        "replaying flights",
        "75%",
        "1/2 parts",
        "7 read",
        "1,234,567 rows",
        "98.0 MB",
        "3 dead letters",
    ):
        assert shown in text


def test_when_all_is_read_it_says_that_the_sinks_are_writing():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    view = View("replaying flights")
    console.print(view.render(at(1, 10, position=999)))
    assert "writing" not in console.file.getvalue()
    console.print(view.render(at(2, 20, position=1000)))
    assert "all read, writing" in console.file.getvalue()


def test_the_live_display_leaves_nothing_behind():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    with watch("flights", console) as show:
        show(at(1, 10, position=5))
    assert "replaying flights" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")  # the last line was erased


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (count(1234567), "1,234,567"),
        (short(0), "0"),
        (short(999), "999"),
        (short(999.6), "1.00 k"),
        (short(431_250), "431 k"),
        (short(999_600), "1.00 M"),
        (short(12_345_678), "12.3 M"),
        (short(2.5e9), "2.50 G"),
        (size(512), "512 B"),
        (size(4_350_000), "4.35 MB"),
        (duration(75), "1:15"),
        (duration(3725), "1:02:05"),
    ],
)
def test_numbers_are_short(shown, text):
    assert shown == text
