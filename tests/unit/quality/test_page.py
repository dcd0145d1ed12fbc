"""The HTML page: well-formed, complete by itself, and safe whatever the data says."""

from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree

import polars as pl
import pytest

from streamcore.engines.quality import QualityEngine
from streamcore.quality.page import page, percent
from streamcore.quality.plots import histogram, line, number
from tests.unit.quality.test_profile import profiled

EVIL = "<script>alert('x')</script>"
CONFIG = {
    "dataset": "users",
    "rules": [
        {"rule_type": "in_set", "column": "name", "parameters": {"values": ["a"]}, "name": EVIL},
        {"rule_type": "unique", "column": "n"},
    ],
    "thresholds": [{"metric": "completeness", "fail": 1.0}],
}
FRAME = pl.DataFrame(
    {
        EVIL: [EVIL, None, "b"],
        "name": [EVIL, "a", '"quoted" & more'],
        "n": [1, 1, 2],
        "x": [0.5, float("nan"), None],
        "at": [dt.datetime(2024, 1, 1), None, dt.datetime(2024, 2, 1)],
        "day": [dt.date(2024, 1, 1)] * 3,
        "clock": [dt.time(1, 2), None, dt.time(3)],
        "took": [dt.timedelta(hours=1), None, dt.timedelta(days=2)],
        "list": [[1], [], None],
        "flag": [True, None, False],
        "nothing": pl.Series([None, None, None], dtype=pl.Int64),
    }
)


def plots_of(text: str) -> list[ElementTree.Element]:
    """The plots of a page, which must be XML."""
    return [
        ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in text.split("<svg")[1:]
    ]


def test_a_page_of_every_type_with_data_that_means_ill():
    engine = QualityEngine()
    baseline = engine.check(FRAME, CONFIG).profile
    text = page(engine.check(FRAME.with_columns(pl.col("n") + 1), CONFIG, baseline=baseline))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert 'class="before"' in text
    assert len(plots_of(text)) >= 4
    for name in FRAME.columns[1:]:
        assert f"<h3>{name}</h3>" in text


def test_a_page_of_a_profile_alone():
    text = page(profiled(FRAME))
    assert "<h2>Columns</h2>" in text
    assert "<h2>Rules</h2>" not in text
    assert page(profiled(FRAME.clear()))


def test_bars_are_as_tall_as_their_shares():
    column = profiled(pl.DataFrame({"n": [1] * 10 + [2] * 20 + [3] * 40})).column("n")
    (plot,) = plots_of(str(histogram(column).svg))
    tall = [float(bar.get("height")) for bar in plot.iter("rect") if bar.get("class").startswith("bar")]
    assert tall == pytest.approx([max(tall) * share for share in (0.25, 0.5, 1.0)], abs=0.2)
    titles = [title.text for title in plot.iter("title")]
    assert titles == ["1: 10 (14.3%)", "2: 20 (28.6%)", "3: 40 (57.1%)"]


def test_a_line_needs_two_looks():
    assert line([0.5], "validity") is None
    assert line([None, 0.5], "validity") is None
    assert "lowest 50.0%, now 100.0%" in str(line([0.5, None, 1.0], "validity"))


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100%"), (0.99999, ">99.9%"), (0.5, "50.0%"), (0.00001, "<0.1%"), (0.0, "0%"), (None, "-")],
)
def test_percent_says_all_and_nothing_only_when_it_is_so(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.5, "1,234"), (-3.0, "-3"), (0.012345, "0.01235"), (1.5e12, "1.5e+12")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text
