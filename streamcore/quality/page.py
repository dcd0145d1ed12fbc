"""A report or a profile as one HTML page: no script, nothing from elsewhere, light and dark, wide and
narrow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from streamcore.quality.drift import ColumnDrift
from streamcore.quality.levels import Level
from streamcore.quality.metrics import METRICS, Metric
from streamcore.quality.plots import Histogram, histogram, line, number
from streamcore.quality.profile import ColumnProfile, Profile, TopValue
from streamcore.quality.report import QualityReport

TOP = 8
"""Frequent values that are shown of a column."""
_WORDS: Mapping[Level, str] = {"ok": "fine", "warn": "warning", "fail": "failed"}


@dataclass(frozen=True, slots=True)
class _Bar:
    """A frequent value: its share of all that are there, how long that is drawn, and the baseline's mark."""

    value: str
    count: int
    share: float
    length: float
    mark: float | None


@dataclass(frozen=True, slots=True)
class _Column:
    profile: ColumnProfile
    histogram: Histogram | None
    bars: Sequence[_Bar]
    drift: ColumnDrift | None
    metrics: Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class _Card:
    metric: Metric
    line: Markup | None


def page(found: QualityReport | Profile) -> str:
    """*found* as a page; all that comes out of data is escaped."""
    report = found if isinstance(found, QualityReport) else None
    profile = report.profile if report else found
    assert isinstance(profile, Profile)
    return _ENVIRONMENT.get_template("report.html").render(
        report=report,
        profile=profile,
        level=report.level if report else None,
        cards=_cards(report) if report else [],
        columns=[_column(column, report) for column in profile.columns],
        top=TOP,
    )


def _cards(report: QualityReport) -> list[_Card]:
    cards = []
    for metric in report.metrics:
        if metric.column is None:
            before = [record.value(metric.metric) for record in report.history]
            cards.append(_Card(metric, line([*before, metric.value], metric.metric)))
    return sorted(cards, key=lambda card: METRICS.index(card.metric.metric))


def _column(now: ColumnProfile, report: QualityReport | None) -> _Column:
    baseline = report.baseline.column(now.name) if report and report.baseline else None
    compared = baseline is not None and baseline.kind == now.kind and now.kind != "time"
    before = baseline if compared else None
    drift = None
    metrics: dict[str, Metric] = {}
    if report:
        moved = report.drift.columns if report.drift else ()
        drift = next((column for column in moved if column.name == now.name), None)
        metrics |= {metric.metric: metric for metric in report.metrics if metric.column == now.name}
    drawn = histogram(now, before)
    return _Column(now, drawn, [] if drawn else _bars(now, before), drift, metrics)


def _bars(now: ColumnProfile, before: ColumnProfile | None) -> list[_Bar]:
    earlier = {top.value: top.count for top in before.top} if before else {}
    whole = before is not None and before.distinct_exact and (before.distinct or 0) <= len(earlier)

    def share_before(top: TopValue) -> float | None:
        if before is None or not before.count or not (whole or top.value in earlier):
            return None
        return earlier.get(top.value, 0) / before.count

    shown = [(top, min(top.count / max(now.count, 1), 1.0), share_before(top)) for top in now.top[:TOP]]
    longest = max((max(share, mark or 0.0) for _, share, mark in shown), default=1.0)
    return [
        _Bar(_shown(top.value), top.count, share, share / longest, None if mark is None else mark / longest)
        for top, share, mark in shown
    ]


def _shown(value: object) -> str:
    text = "true" if value is True else "false" if value is False else str(value)
    return text if text.strip() else "(blank)"


def percent(share: float | None) -> str:
    """A share of all; all and nothing only when it is exactly that."""
    if share is None:
        return "-"
    text = f"{share:.1%}"
    if text == "100.0%":
        return "100%" if share == 1 else "99.9%" if share < 0.9995 else ">99.9%"
    if text == "0.0%":
        return "0%" if share == 0 else "<0.1%"
    return text


def _minute(time: dt.datetime) -> str:
    return (
        f"{time:%Y-%m-%d %H:%M} UTC"
        if time.utcoffset() == dt.timedelta(0)
        else time.isoformat(" ", "minutes")
    )


_ENVIRONMENT = Environment(
    loader=PackageLoader("streamcore.quality"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "count": lambda value: f"{value:,}",
    "number": lambda value: number(float(value)),
    "percent": percent,
    "minute": _minute,
    "word": lambda level: _WORDS[level],
}
