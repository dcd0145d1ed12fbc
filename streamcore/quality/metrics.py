"""The five metrics of a dataset and its columns, each a share from 0 (bad) to 1 (good).

=============  =========================================  ================================================
metric         of a column: the share of …                of the dataset
=============  =========================================  ================================================
completeness   rows that have a value                     cells that have one
validity       values that fail no rule about the column  rows without such a value; refused rows count
uniqueness     different values, of all values            rows that repeat no key: by the worst ``unique``
consistency    -                                          rows that fail no rule across columns
timeliness     -                                          rows that are not older than allowed
=============  =========================================  ================================================

A metric without rules, rows or a time to judge by is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict

from streamcore.quality.levels import Level
from streamcore.quality.profile_state import ProfileState
from streamcore.quality.rule_counts import RuleCounts
from streamcore.quality.timeliness import Ages
from streamcore.validation import Rule

MetricName: TypeAlias = Literal["completeness", "validity", "uniqueness", "consistency", "timeliness"]
METRICS: Sequence[MetricName] = get_args(MetricName)


class Metric(BaseModel):
    """One value: of ``column``, or of the dataset. ``level``: what its threshold says."""

    model_config = ConfigDict(frozen=True)

    metric: MetricName
    column: str | None = None
    value: float
    level: Level = "ok"


def metrics_of(
    state: ProfileState,
    rules: Sequence[Rule],
    counts: RuleCounts,
    unique: Mapping[str, RuleCounts],
    ages: Ages,
    refused: int,
) -> list[Metric]:
    """All metrics that can be told, those of the dataset first. *unique*: counts of the ``unique`` rules."""
    return [*_of_dataset(state, rules, counts, unique, ages, refused), *_of_columns(state, rules, counts)]


def _of_dataset(
    state: ProfileState,
    rules: Sequence[Rule],
    counts: RuleCounts,
    unique: Mapping[str, RuleCounts],
    ages: Ages,
    refused: int,
) -> Iterator[Metric]:
    cells = sum(column.count + column.nulls for column in state.columns.values())
    if cells:
        yield _metric("completeness", sum(column.count for column in state.columns.values()), cells)
    rows = state.rows + refused
    if rows and (_judged(rules) or refused):
        yield _metric("validity", state.rows - counts.invalid_rows, rows)
    repeated = [count.failed.get(id, 0) for id, count in unique.items()]
    if state.rows and repeated:
        yield _metric("uniqueness", state.rows - max(repeated), state.rows)
    if state.rows and any(rule.rule_type == "expression" for rule in rules):
        yield _metric("consistency", state.rows - counts.inconsistent_rows, state.rows)
    if ages.count:
        yield _metric("timeliness", ages.timely, ages.count)


def _of_columns(state: ProfileState, rules: Sequence[Rule], counts: RuleCounts) -> Iterator[Metric]:
    judged = _judged(rules)
    for name, column in state.columns.items():
        if column.count + column.nulls:
            yield _metric("completeness", column.count, column.count + column.nulls, name)
        if not column.count:
            continue
        if name in judged:
            yield _metric("validity", column.count - counts.invalid.get(name, 0), column.count, name)
        if column.distinct is not None:
            yield _metric("uniqueness", column.distinct, column.count, name)


def _judged(rules: Sequence[Rule]) -> set[str]:
    """The columns that some rule is about whose failures make a value invalid."""
    return {rule.column for rule in rules if rule.column is not None and rule.rule_type != "not_null"}


def _metric(metric: MetricName, good: int, of: int, column: str | None = None) -> Metric:
    return Metric(metric=metric, column=column, value=good / of)
