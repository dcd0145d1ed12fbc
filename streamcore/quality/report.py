"""All that one look at a dataset found: metrics, rules, profile and drift, and how bad it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from streamcore.quality.config import QualityConfig, Threshold
from streamcore.quality.drift import Drift, drift_of
from streamcore.quality.levels import Level, below, worst
from streamcore.quality.metrics import Metric
from streamcore.quality.profile import Profile
from streamcore.quality.validation_result import RuleResult, ValidationResult


class RunRecord(BaseModel):
    """One look, as the store keeps it: small, without rows, values or profile. A ``run_id`` names it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dataset: str
    as_of: dt.datetime
    rows: int
    refused: int
    level: Level
    run_id: str | None = None
    metrics: Sequence[Metric] = ()
    pass_rates: Mapping[str, float] = Field(default_factory=dict)

    def value(self, metric: str, column: str | None = None) -> float | None:
        """The value of *metric*, of *column* or of the dataset; None when it was not told."""
        wanted = metric, column
        return next((one.value for one in self.metrics if (one.metric, one.column) == wanted), None)


class QualityReport(BaseModel):
    """One look at a dataset. ``rule_levels``: what each rule means, by its id; ``history``: earlier looks."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    as_of: dt.datetime
    level: Level
    rows: int
    refused: int
    metrics: Sequence[Metric]
    validation: ValidationResult | None
    rule_levels: Mapping[str, Level]
    profile: Profile
    drift: Drift | None = None
    history: Sequence[RunRecord] = ()
    baseline: Profile | None = Field(None, exclude=True)

    def record(self, run_id: str | None = None) -> RunRecord:
        """What is kept of it."""
        rules = self.validation.rules if self.validation else ()
        return RunRecord(
            dataset=self.dataset,
            as_of=self.as_of,
            rows=self.rows,
            refused=self.refused,
            level=self.level,
            run_id=run_id,
            metrics=self.metrics,
            pass_rates={rule.rule_id: rule.pass_rate for rule in rules if rule.pass_rate is not None},
        )


def report_of(
    config: QualityConfig,
    profile: Profile,
    metrics: Sequence[Metric],
    validation: ValidationResult | None,
    baseline: Profile | None = None,
    history: Sequence[RunRecord] = (),
) -> QualityReport:
    """The report of what was found. A threshold of a metric that could not be told fails, or warns as it
    says."""
    judged = [metric.model_copy(update={"level": _level(metric, config.thresholds)}) for metric in metrics]
    rules = validation.rules if validation else ()
    rule_levels = {rule.rule_id: _rule_level(rule, config.thresholds) for rule in rules}
    drift = None if baseline is None else drift_of(baseline, profile, config.drift)
    levels: list[Level] = [metric.level for metric in judged]
    levels += rule_levels.values()
    levels += [_untold(threshold) for threshold in config.thresholds if not _told(threshold, metrics)]
    levels += [drift.level] if drift else []
    return QualityReport(
        dataset=profile.dataset,
        as_of=profile.made_at,
        level=worst(levels),
        rows=profile.rows,
        refused=profile.refused,
        metrics=judged,
        validation=validation,
        rule_levels=rule_levels,
        profile=profile,
        drift=drift,
        history=history,
        baseline=baseline,
    )


def untold(config: QualityConfig, metrics: Sequence[Metric]) -> list[Threshold]:
    """The thresholds of metrics that could not be told."""
    return [threshold for threshold in config.thresholds if not _told(threshold, metrics)]


def _told(threshold: Threshold, metrics: Sequence[Metric]) -> bool:
    wanted = threshold.metric, threshold.column
    return threshold.rule is not None or any((metric.metric, metric.column) == wanted for metric in metrics)


def _untold(threshold: Threshold) -> Level:
    return "warn" if threshold.fail is None else "fail"


def _level(metric: Metric, thresholds: Sequence[Threshold]) -> Level:
    return worst(
        below(metric.value, threshold.warn, threshold.fail)
        for threshold in thresholds
        if (threshold.metric, threshold.column) == (metric.metric, metric.column)
    )


def _rule_level(rule: RuleResult, thresholds: Sequence[Threshold]) -> Level:
    own = [threshold for threshold in thresholds if threshold.rule == rule.rule_id]
    if own and rule.pass_rate is not None:
        return worst(below(rule.pass_rate, threshold.warn, threshold.fail) for threshold in own)
    if not rule.failed:
        return "ok"
    return "fail" if rule.severity == "error" else "warn"
