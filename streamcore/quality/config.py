"""What is asked of a dataset: rules, a time that says how old rows are, thresholds. Written as YAML or as a
dictionary."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from streamcore.durations import duration
from streamcore.errors import BadConfig, did_you_mean
from streamcore.quality.drift import DriftThresholds
from streamcore.quality.metrics import MetricName
from streamcore.quality.validation_rule import ValidationRule


class Part(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TimelinessConfig(Part):
    """Rows are timely while the time in ``column`` is at most ``max_age`` old, e.g. "1d"."""

    column: str
    max_age: dt.timedelta

    @field_validator("max_age", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return duration(value) if isinstance(value, str) else value


class Threshold(Part):
    """A metric (of the dataset, or of ``column``), or the pass rate of a ``rule``, is to be no less than
    this."""

    metric: MetricName | None = None
    column: str | None = None
    rule: str | None = Field(None, description="The rule_id.")
    warn: float | None = Field(None, ge=0, le=1, description="Less than this warns.")
    fail: float | None = Field(None, ge=0, le=1, description="Less than this fails.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Threshold:
        if (self.metric is None) == (self.rule is None):
            raise ValueError("a threshold is about a metric or about a rule")
        if self.rule is not None and self.column is not None:
            raise ValueError("a rule has its column already")
        if self.warn is None and self.fail is None:
            raise ValueError("a threshold needs warn, fail or both")
        return self


class QualityConfig(Part):
    """What is asked of a dataset. Without ``thresholds`` for it, a rule that some row fails says its
    severity."""

    dataset: str | None = Field(None, description="The name under which results are kept.")
    source: str | Mapping[str, Any] | None = Field(None, description="A path, a URI, a source's dictionary.")
    columns: Mapping[str, str] = Field(default_factory=dict, description="Types of columns by name.")
    secret_columns: Sequence[str] = Field((), description="Columns whose values are never shown.")
    rules: Sequence[ValidationRule] = Field((), description="Rules, as validation has them.")
    event_time: str | None = Field(None, description="A column of times, for unique with within.")
    timeliness: TimelinessConfig | None = None
    thresholds: Sequence[Threshold] = ()
    drift: DriftThresholds = Field(default_factory=DriftThresholds)
    samples: int = Field(5, ge=0, le=100, description="Failing rows that are kept of each rule.")

    @model_validator(mode="after")
    def _rules_of_thresholds(self) -> QualityConfig:
        known = [rule.rule().id for rule in self.rules]
        for threshold in self.thresholds:
            if threshold.rule is not None and threshold.rule not in known:
                fix = did_you_mean(threshold.rule, known)
                raise BadConfig("a threshold of an unknown rule", got=threshold.rule, allowed=known, fix=fix)
        return self


def quality_config(given: Mapping[str, Any], where: str | None = None) -> QualityConfig:
    """The configuration that a dictionary says, read from *where*. BadConfig names the key."""
    try:
        return QualityConfig.model_validate(given)
    except BadConfig as error:
        raise BadConfig(
            error.what, where=error.where or where, got=error.got, allowed=error.allowed, fix=error.fix
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            known = list(QualityConfig.model_fields)
            fix = did_you_mean(key, known)
            raise BadConfig("unknown key of quality", where=where, got=key, allowed=known, fix=fix) from None
        message = first["msg"].removeprefix("Value error, ")
        raise BadConfig(f"{key}: {message}", where=where, fix="see docs/quality.md") from None


def read_rules(path: Path) -> Mapping[str, Any]:
    """The configuration in the YAML file at *path*. BadConfig, with line and column, when it is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"the rules can't be read: {error}", where=str(path), fix="check --rules") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        what = f"the rules are not YAML: {problem or 'a character that is not allowed'}"
        raise BadConfig(what, where=place, fix="check indentation, colons and quotes there") from error
    if not isinstance(found, Mapping):
        raise BadConfig(
            "the rules must be a mapping", where=str(path), fix="write rules: and a list below it"
        )
    return found
