"""Reports, profiles and drift on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamcore.cli.console import count
from streamcore.quality.drift import Drift
from streamcore.quality.levels import Level
from streamcore.quality.metrics import METRICS
from streamcore.quality.page import percent
from streamcore.quality.plots import edge_text, number
from streamcore.quality.profile import ColumnProfile, Profile
from streamcore.quality.report import QualityReport, RunRecord

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDEST, _TREND = 44, 20
_CUT = ("column", "values", "from … to", "why", "rule")
"""Columns that are cut short rather than wrapped."""


def show_report(console: Console, report: QualityReport) -> None:
    """Print metrics and rules of *report*, and what has drifted."""
    rows = _rows(report.rows, report.refused)
    console.print(Text.assemble((report.dataset, "bold"), "  ", _level(report.level), f"  {rows}\n"))
    console.print(_metrics(report))
    if report.validation is not None:
        rules = _table("rule", "failing", "pass rate", "", "e.g.", numbers=("failing", "pass rate"))
        for rule in report.validation.rules:
            first = rule.samples[0].row if rule.samples else {}
            example = Text(", ".join(f"{name}={value}" for name, value in first.items()), style="dim")
            level = _level(report.rule_levels[rule.rule_id])
            rules.add_row(rule.message, count(rule.failed), percent(rule.pass_rate), level, example)
        console.print()
        console.print(rules)
    if report.drift is not None:
        console.print()
        show_drift(console, report.drift)


def show_history(console: Console, records: Sequence[RunRecord], column: str | None) -> None:
    """Print a line a look, the newest last, with the metrics of the dataset or of *column*."""
    told = [name for name in METRICS if any(record.value(name, column) is not None for record in records)]
    table = _table("as of", "", "rows", "refused", *told, numbers=("rows", "refused", *told))
    for record in records:
        values = [record.value(name, column) for name in told]
        when = record.as_of.isoformat(sep=" ", timespec="seconds")
        shown = ["" if value is None else percent(value) for value in values]
        table.add_row(when, _level(record.level), count(record.rows), count(record.refused), *shown)
    trends = [_trend([record.value(name, column) for record in records]) for name in told]
    if len(records) > 1:
        table.add_row("", "", "", "", *trends, style="dim")
    console.print(table)


def show_datasets(console: Console, newest: Sequence[RunRecord]) -> None:
    """Print a line a dataset, with its newest look."""
    table = _table("dataset", "as of", "", "rows", numbers=("rows",))
    for record in newest:
        when = record.as_of.isoformat(sep=" ", timespec="seconds")
        table.add_row(record.dataset, when, _level(record.level), count(record.rows))
    console.print(table)


def _metrics(report: QualityReport) -> Table:
    """Those of the dataset, and those of columns that are of interest; beside each what it was before."""
    numbers = ("value", "before")
    past = ("before", "trend") if report.history else ()
    table = _table("metric", "value", "", "column", *past, numbers=numbers)
    for metric in report.metrics:
        if metric.column is None or metric.level != "ok" or metric.metric == "validity":
            row: list[str | Text] = [metric.metric, percent(metric.value), _level(metric.level)]
            row.append(metric.column or "")
            if past:
                before = [record.value(metric.metric, metric.column) for record in report.history]
                row.append("" if before[-1] is None else percent(before[-1]))
                row.append(Text(_trend([*before, metric.value]), style="dim"))
            table.add_row(*row)
    return table


def _trend(values: Sequence[float | None]) -> str:
    """A block a value that is known, between the least and the largest of them."""
    known = [value for value in values[-_TREND:] if value is not None]
    least, reach = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    if not reach:
        return _BLOCKS[-1] * len(known)
    return "".join(_BLOCKS[round((value - least) / reach * (len(_BLOCKS) - 1))] for value in known)


def show_profile(console: Console, profile: Profile) -> None:
    """Print a line a column."""
    rows = _rows(profile.rows, profile.refused)
    console.print(Text.assemble((profile.dataset, "bold"), f"  {rows}\n"))
    right = ("nulls", "different", "mean")
    table = _table("column", "type", "nulls", "different", "mean", "from … to", "values", numbers=right)
    for column in profile.columns:
        different = "" if column.distinct is None else count(column.distinct)
        table.add_row(
            column.name,
            column.type,
            percent(column.null_share),
            different if column.distinct_exact or not different else f"~{different}",
            number(column.numbers.mean) if column.numbers else "",
            _reach(column),
            _values(column),
        )
    console.print(table)


def show_drift(console: Console, drift: Drift) -> None:
    """Print a line a column, those that moved with the reason."""
    rows = f"  {count(drift.rows_now)} rows against {count(drift.rows_before)} of {drift.baseline}\n"
    console.print(Text.assemble(("drift", "bold"), "  ", _level(drift.level), rows))
    table = _table(
        "column", "", "stability index", "distance", "why", numbers=("stability index", "distance")
    )
    for column in drift.columns:
        measures = ["" if one is None else f"{one:.3f}" for one in (column.psi, column.distance)]
        table.add_row(column.name, _level(column.level), *measures, "; ".join(column.reasons))
    console.print(table)


def _rows(rows: int, refused: int) -> str:
    return f"{count(rows)} rows" + (f", {count(refused)} that can't be read" if refused else "")


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=_WIDEST if column in _CUT else None,
        )
    return table


def _level(level: Level) -> Text:
    return Text(level, style=_STYLES[level])


def _reach(column: ColumnProfile) -> str:
    if column.hidden:
        return "secret"
    if column.times is not None:
        return f"{column.times.min} … {column.times.max}".replace("T", " ")
    if column.numbers is not None:
        return f"{number(column.numbers.min)} … {number(column.numbers.max)}"
    if column.lengths is not None:
        return f"{number(column.lengths.min)} … {number(column.lengths.max)} long"
    return ""


def _values(column: ColumnProfile) -> str:
    if column.histogram is not None and len(column.histogram.counts) > 1:
        most = max(column.histogram.counts)
        return "".join(_BLOCKS[-(-n * (len(_BLOCKS) - 1) // most)] for n in column.histogram.counts)
    if column.histogram is not None:
        return edge_text(column.histogram.edges[0], column)
    return ", ".join(f"{top.value} {percent(top.count / column.count)}" for top in column.top[:3])
