"""How a dataset has moved away from a baseline: two profiles compared, column by column.

Numbers are compared over tenths of the baseline, texts and truth values over the baseline's frequent values
and the rest together. The population stability index is the sum of (q - p) * ln(q / p) over these shares p of
the baseline and q of now, each with half a row more, so that none is zero. Under 0.1 is commonly called
stable, from 0.25 on moved (Siddiqi, Credit Risk Scorecards, 2006). Of small datasets the index is large by
chance: it counts only above what chance gives (Yurdakul, Statistical Properties of Population Stability
Index, 2018: a chi-square of bins - 1 degrees of freedom, times 1/n + 1/m; here its mean and three standard
deviations).

Beside it stands a distance from 0 to 1: of numbers the Kolmogorov-Smirnov statistic, the largest difference
of the cumulative shares; of values the Jensen-Shannon distance with logarithms to base 2.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamcore.quality.distribution import Distribution
from streamcore.quality.levels import Level, above, worst
from streamcore.quality.numbers import Floats
from streamcore.quality.profile import TOP, ColumnProfile, Profile

BINS = 10
_Share = Field(ge=0, le=1)


class DriftThresholds(BaseModel):
    """From where on a column has moved. None: that alone never says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    psi_warn: float | None = Field(0.1, ge=0, description="Population stability index that warns.")
    psi_fail: float | None = Field(0.25, ge=0, description="The same, that fails.")
    distance_warn: float | None = Field(None, ge=0, le=1, description="Distance that warns.")
    distance_fail: float | None = Field(None, ge=0, le=1, description="The same, that fails.")
    nulls_warn: float | None = Field(0.05, ge=0, le=1, description="Change of the share of nulls that warns.")
    nulls_fail: float | None = Field(0.2, ge=0, le=1, description="The same, that fails.")
    missing: Level = Field("fail", description="What a column that is gone means.")
    new: Level = Field("warn", description="What a column that was not there means.")
    type_changed: Level = Field("fail", description="What another type means.")
    times: bool = Field(False, description="Whether times are compared too; most move by themselves.")
    ignore: Sequence[str] = Field((), description="Columns that are not compared, e.g. numbers of orders.")


class ColumnDrift(BaseModel):
    """One column. ``psi``, ``distance`` and ``chance`` (of the index) are None where values can't be
    compared."""

    model_config = ConfigDict(frozen=True)

    name: str
    change: Literal["compared", "missing", "new", "type"]
    level: Level
    psi: float | None = None
    chance: float | None = None
    distance: float | None = None
    nulls_before: float | None = None
    nulls_now: float | None = None
    reasons: Sequence[str] = ()


class Drift(BaseModel):
    """All columns of a baseline and of now."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    baseline: str
    baseline_made_at: dt.datetime
    rows_before: int
    rows_now: int
    level: Level
    columns: Sequence[ColumnDrift]


def drift_of(baseline: Profile, now: Profile, thresholds: DriftThresholds | None = None) -> Drift:
    """What has moved from *baseline* to *now*."""
    limits = thresholds or DriftThresholds()
    names = [column.name for column in baseline.columns]
    names += [column.name for column in now.columns if column.name not in names]
    columns = [
        _column(name, baseline.column(name), now.column(name), limits)
        for name in names
        if name not in limits.ignore
    ]
    return Drift(
        dataset=now.dataset,
        baseline=baseline.dataset,
        baseline_made_at=baseline.made_at,
        rows_before=baseline.rows,
        rows_now=now.rows,
        level=worst(column.level for column in columns),
        columns=columns,
    )


def _column(
    name: str, before: ColumnProfile | None, now: ColumnProfile | None, limits: DriftThresholds
) -> ColumnDrift:
    if now is None:
        return ColumnDrift(name=name, change="missing", level=limits.missing, reasons=["the column is gone"])
    if before is None:
        return ColumnDrift(name=name, change="new", level=limits.new, reasons=["the column was not there"])
    if before.kind != now.kind:
        reason = f"{before.type} has become {now.type}"
        return ColumnDrift(name=name, change="type", level=limits.type_changed, reasons=[reason])
    levels, reasons = [], []
    moved = abs(now.null_share - before.null_share)
    levels.append(above(moved, limits.nulls_warn, limits.nulls_fail))
    if levels[-1] != "ok":
        reasons.append(f"nulls went from {before.null_share:.1%} to {now.null_share:.1%}")
    found = _compared(before, now, limits)
    psi, chance, distance = found or (None, None, None)
    if psi is not None and chance is not None and psi > chance:
        levels.append(above(psi, limits.psi_warn, limits.psi_fail))
        if levels[-1] != "ok":
            reasons.append(f"the stability index is {psi:.2f}")
    if distance is not None:
        levels.append(above(distance, limits.distance_warn, limits.distance_fail))
        if levels[-1] != "ok":
            reasons.append(f"the distance is {distance:.2f}")
    return ColumnDrift(
        name=name,
        change="compared",
        level=worst(levels),
        psi=psi,
        chance=chance,
        distance=distance,
        nulls_before=before.null_share,
        nulls_now=now.null_share,
        reasons=reasons,
    )


def _compared(
    before: ColumnProfile, now: ColumnProfile, limits: DriftThresholds
) -> tuple[float, float, float] | None:
    """The index, what chance makes of it, and the distance."""
    if not before.count or not now.count:
        return None
    if before.distribution is not None and now.distribution is not None:
        if before.kind == "time" and not limits.times:
            return None
        shares = _tenths(before.distribution, now.distribution)
        return *_index(*shares), _kolmogorov_smirnov(before.distribution, now.distribution)
    if before.top and now.top and before.distinct_exact and now.distinct_exact:
        counts = _categories(before, now)
        return *_index(*counts), _jensen_shannon(*counts)
    return None


def _tenths(before: Distribution, now: Distribution) -> tuple[Floats, Floats]:
    """Counts over tenths of *before*, cut where its pieces end."""
    totals = np.cumsum(before.counts)
    at = np.searchsorted(totals, totals[-1] * np.arange(1, BINS) / BINS)
    # Behind the ends, for a piece may be a single number; what is larger than all before is with the last.
    edges = np.nextafter(np.unique(np.array(before.upper)[at]), np.inf)
    edges = edges[edges < before.upper[-1]]
    return _binned(before, edges), _binned(now, edges)


def _binned(distribution: Distribution, edges: Floats) -> Floats:
    ends = np.concatenate([[0.0], distribution.below(edges), [float(distribution.total)]])
    return np.diff(ends)


def _categories(before: ColumnProfile, now: ColumnProfile) -> tuple[Floats, Floats]:
    """Counts by value, and of all other values together; values that one of both may have left out are
    others."""
    counts = [{top.value: top.count for top in column.top} for column in (before, now)]
    whole = [(column.distinct or 0) <= TOP for column in (before, now)]
    named = [
        value
        for value in {**counts[0], **(counts[1] if whole[0] else {})}
        if (value in counts[0] or whole[0]) and (value in counts[1] or whole[1])
    ]
    tables = []
    for column, known in zip((before, now), counts, strict=True):
        of_named = [float(known.get(value, 0)) for value in named]
        tables.append(np.array([*of_named, column.count - sum(of_named)]))
    return tables[0], tables[1]


def _index(before: Floats, now: Floats) -> tuple[float, float]:
    bins = len(before)
    p = (before + 0.5) / (before.sum() + 0.5 * bins)
    q = (now + 0.5) / (now.sum() + 0.5 * bins)
    free = max(int(((before + now) > 0).sum()) - 1, 0)
    chance = (free + 3 * np.sqrt(2 * free)) * (1 / before.sum() + 1 / now.sum())
    return float(((q - p) * np.log(q / p)).sum()), float(chance)


def _kolmogorov_smirnov(before: Distribution, now: Distribution) -> float:
    ends = np.concatenate([before.upper, now.upper, before.lower, now.lower])
    places = np.concatenate([ends, np.nextafter(ends, np.inf)])
    apart = before.below(places) / before.total - now.below(places) / now.total
    return float(np.abs(apart).max())


def _jensen_shannon(before: Floats, now: Floats) -> float:
    p, q = before / before.sum(), now / now.sum()
    middle = (p + q) / 2

    def divergence(shares: Floats) -> float:
        there = shares > 0
        return float((shares[there] * np.log2(shares[there] / middle[there])).sum())

    return float(np.sqrt(max((divergence(p) + divergence(q)) / 2, 0.0)))
