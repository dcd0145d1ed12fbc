"""Rules counted over a dataset: how many rows fail each, and the first of those rows, as a state that merges.

The rules and how they judge are those of :mod:`streamcore.validation`; here nothing is refused or flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl

from streamcore.batch import OFFSET, user_columns
from streamcore.expressions import check_columns
from streamcore.quality.plain import Plain, plain
from streamcore.validation import Rule, Validate
from streamcore.validation.steps import Mask

SAMPLES = 5
"""Failing rows that are kept of each rule, unless told otherwise."""
HIDDEN_VALUE = "•••"
"""Stands for each value of a secret column."""

Row: TypeAlias = Mapping[str, Plain]


class Sample(NamedTuple):
    """A failing row: its source partition, its position there, and its values as JSON has them."""

    partition: int
    position: int
    row: Row


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """What is known of the rules over some rows. ``failed``: rows that fail a rule, by its id.

    ``invalid``: by column, rows whose value fails some rule about that column alone; ``invalid_rows``: rows
    with such a value in any column; ``inconsistent_rows``: those that fail some ``expression``. A missing
    value is not invalid: that is what completeness is about. ``samples``: by rule, the first rows in the
    order of partitions and positions, as many as ``most``.
    """

    rows: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    invalid: Mapping[str, int] = field(default_factory=dict)
    invalid_rows: int = 0
    inconsistent_rows: int = 0
    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    most: int = SAMPLES

    def merge(self, other: RuleCounts) -> RuleCounts:
        """Both together. Associative and commutative; a state without rows changes nothing."""
        most = min(self.most, other.most)
        samples = {
            id: tuple(sorted([*self.samples.get(id, ()), *other.samples.get(id, ())], key=_place)[:most])
            for id in {**self.samples, **other.samples}
        }
        return RuleCounts(
            self.rows + other.rows,
            _added(self.failed, other.failed),
            _added(self.invalid, other.invalid),
            self.invalid_rows + other.invalid_rows,
            self.inconsistent_rows + other.inconsistent_rows,
            samples,
            most,
        )


@dataclass(frozen=True)
class RuleChecks:
    """Rules compiled over columns. ``secret``: columns whose values never come into a sample."""

    _step: Validate | None
    secret: frozenset[str]
    most: int

    @classmethod
    def of(
        cls,
        rules: Sequence[Rule],
        columns: pl.Schema,
        *,
        secret: Iterable[str] = (),
        samples: int = SAMPLES,
    ) -> RuleChecks:
        """Compile *rules*, none of which is ``unique``, over *columns*. BadConfig as :meth:`Validate.of`."""
        secret = list(secret)
        check_columns(secret, columns, "in secret columns")
        step = Validate.of(rules, columns) if rules else None
        return cls(step, frozenset(secret), samples)

    def count(self, frame: pl.DataFrame, partition: int = 0) -> RuleCounts:
        """The counts of *frame*, which has the hidden columns; its rows are of source *partition*."""
        if self._step is None or not frame.height:
            return RuleCounts(frame.height, most=self.most)
        failed = self._step.failed(frame)
        by_column: dict[str, list[Mask]] = {}
        for check, mask in failed:
            if check.rule.column is not None and check.rule.rule_type != "not_null":
                by_column.setdefault(check.rule.column, []).append(mask)
        invalid = {name: np.logical_or.reduce(masks) for name, masks in by_column.items()}
        crossing = [mask for check, mask in failed if check.rule.column is None]
        return RuleCounts(
            frame.height,
            {check.rule.id: int(mask.sum()) for check, mask in failed},
            {name: int(mask.sum()) for name, mask in invalid.items()},
            _rows(list(invalid.values())),
            _rows(crossing),
            {
                check.rule.id: first_failing(frame, mask, partition, self.most, self.secret)
                for check, mask in failed
            },
            self.most,
        )


def first_failing(
    frame: pl.DataFrame, mask: Mask, partition: int, most: int, secret: Iterable[str]
) -> tuple[Sample, ...]:
    """The first *most* rows of *frame* (with hidden columns) that *mask* marks, of source *partition*."""
    rows = frame[np.flatnonzero(mask)[:most]]
    values = shown_rows(user_columns(rows), secret)
    return tuple(
        Sample(partition, place, row) for place, row in zip(rows[OFFSET].to_list(), values, strict=True)
    )


def shown_rows(frame: pl.DataFrame, secret: Iterable[str]) -> list[Row]:
    """The rows of *frame* as JSON has them; of *secret* columns only whether there is a value."""
    hidden = set(secret)
    return [
        {n: None if v is None else HIDDEN_VALUE if n in hidden else plain(v) for n, v in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _rows(masks: Sequence[Mask]) -> int:
    return int(np.logical_or.reduce(masks).sum()) if masks else 0


def _added(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + others.get(name, 0) for name in sorted({*some, *others})}


def _place(sample: Sample) -> tuple[int, int]:
    return sample.partition, sample.position
