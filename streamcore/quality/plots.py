"""Plots as inline SVG: histograms with a baseline over them, and lines of history. Colours are CSS
classes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from streamcore.quality.numbers import Floats
from streamcore.quality.profile import ColumnProfile
from streamcore.quality.timeliness import EPOCH

WIDTH, HEIGHT = 360.0, 96.0
_GAP = 1.5
_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Histogram:
    """The drawing, and what to write below its left end, its middle and its right end."""

    svg: Markup
    labels: tuple[str, str, str]


def histogram(now: ColumnProfile, before: ColumnProfile | None = None) -> Histogram | None:
    """The bars of *now*, and the shares of *before* in the same bars as a line. None without numbers or
    times.

    The first and last bar hold all that lies outside of the others, so they are drawn paler.
    """
    if now.histogram is None or not now.histogram.counts:
        return None
    edges, counts = now.histogram.edges, np.array(now.histogram.counts, np.float64)
    shares = counts / max(counts.sum(), 1.0)
    earlier = _shares(edges, before)
    top = max(shares.max(), 0.0 if earlier is None else earlier.max()) or 1.0
    wide = WIDTH / len(shares)
    ends = [edge - 1 for edge in edges] if now.whole else edges
    labels = [edge_text(edge, now) for edge in edges]
    drawn = []
    for at, share in enumerate(shares):
        tall = share / top * (HEIGHT - 4)
        end = edge_text(ends[at + 1], now)
        said = labels[at] + (f" to {end}" if end != labels[at] else "")
        said += f": {counts[at]:,.0f} ({share:.1%})"
        if earlier is not None:
            said += f", baseline {earlier[at]:.1%}"
        drawn.append(
            Markup(
                '<g><title>{}</title><rect class="hit" x="{:.1f}" y="0" width="{:.1f}" height="{:.0f}"/>'
                '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1"/></g>'
            ).format(
                said,
                at * wide,
                wide,
                HEIGHT,
                "bar outer" if _is_wider(edges, at) else "bar",
                at * wide + _GAP / 2,
                HEIGHT - tall,
                max(wide - _GAP, 0.5),
                tall,
            )
        )
    if earlier is not None:
        drawn.append(_steps(earlier / top * (HEIGHT - 4), wide))
    last = edge_text(ends[-1], now)
    middle = labels[len(labels) // 2] if len(labels) > 3 else ""
    named = f"Histogram of {now.name} from {labels[0]} to {last}"
    return Histogram(_svg(drawn, named), (labels[0], middle, last))


def line(values: Sequence[float | None], name: str) -> Markup | None:
    """*values* of a metric over its looks, the last one with a dot; None with fewer than two."""
    there = [(at, value) for at, value in enumerate(values) if value is not None]
    if len(there) < 2:
        return None
    low = min(value for _, value in there)
    span = max(1.0 - low, 0.02)
    points = [
        (4 + at / (len(values) - 1) * (WIDTH - 8), 4 + (1 - value) / span * (HEIGHT / 3 - 8))
        for at, value in there
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    drawn = [
        Markup('<polyline class="line" points="{}"/>').format(path),
        # A line without length keeps its round end however the plot is stretched; a circle would not.
        Markup('<path class="dot" d="M{:.1f} {:.1f}h0"/>').format(x, y),
    ]
    said = f"{name} over {len(values)} looks: lowest {low:.1%}, now {there[-1][1]:.1%}"
    return _svg(drawn, said, HEIGHT / 3)


def edge_text(edge: float, column: ColumnProfile) -> str:
    """An edge of a histogram of *column* for people."""
    if column.kind != "time":
        return number(edge)
    if column.type == "time":
        return str((dt.datetime.min + dt.timedelta(microseconds=edge)).time())
    if column.type.startswith("pl.Duration"):
        return str(dt.timedelta(microseconds=edge))
    time = EPOCH + dt.timedelta(microseconds=edge)
    whole = (column.histogram.edges if column.histogram else [edge])[1:-1]
    by_day = len(whole) > 0 and all(one % _DAY == 0 for one in whole)
    return f"{time:%Y-%m-%d}" if by_day or edge % _DAY == 0 else f"{time:%Y-%m-%d %H:%M}"


def number(value: float) -> str:
    """A number in few characters: ``1,234``, ``0.0123``, ``1.2e+09``."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-4:
        return f"{value:.2g}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _shares(edges: Sequence[float], before: ColumnProfile | None) -> Floats | None:
    if before is None or before.distribution is None or not before.count:
        return None
    total = float(before.distribution.total)
    below = before.distribution.below(np.array(edges[1:-1]))
    return np.diff(np.concatenate([[0.0], below, [total]])) / total


def _is_wider(edges: Sequence[float], at: int) -> bool:
    """Whether bar *at*, the first or last one, stands for more than the others do."""
    if len(edges) < 4 or at not in (0, len(edges) - 2):
        return False
    return edges[at + 1] - edges[at] > (edges[2] - edges[1]) * 1.001


def _steps(heights: Floats, wide: float) -> Markup:
    points = []
    for at, tall in enumerate(heights):
        points += [f"{at * wide:.1f},{HEIGHT - tall:.1f}", f"{(at + 1) * wide:.1f},{HEIGHT - tall:.1f}"]
    return Markup('<polyline class="before" points="{}"/>').format(" ".join(points))


def _svg(drawn: Sequence[Markup], name: str, height: float = HEIGHT) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, height, name, Markup("").join(drawn))
