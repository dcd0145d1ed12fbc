"""What a validation says: per rule the rows that fail, the first of them, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, computed_field

from streamcore.quality.plain import Plain
from streamcore.quality.rule_counts import RuleCounts
from streamcore.validation import Rule


class FailingRow(BaseModel):
    """A row that fails a rule: its position in source partition *partition*, and its values.

    The position is a row's number, of a text file the byte at which it starts, and of ``unique`` its place in
    the log of the rule's state. Secret values are not shown.
    """

    model_config = ConfigDict(frozen=True)

    partition: int
    position: int
    row: Mapping[str, Plain]


class RuleResult(BaseModel):
    """One rule. ``failed`` of ``rows`` rows fail it; ``samples`` are the first of them."""

    model_config = ConfigDict(frozen=True)

    rule_id: str
    name: str | None
    rule_type: str
    column: str
    severity: str
    message: str
    rows: int
    failed: int
    samples: Sequence[FailingRow] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pass_rate(self) -> float | None:
        """The share of rows that pass, from 0 to 1; None without a row."""
        return None if self.rows == 0 else 1 - self.failed / self.rows


class ValidationResult(BaseModel):
    """All rules over a dataset. ``refused``: rows that could not be read as rows of its columns."""

    model_config = ConfigDict(frozen=True)

    rows: int
    refused: int = 0
    rules: Sequence[RuleResult] = Field(default_factory=tuple)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def valid(self) -> bool:
        """Whether no row fails a rule of severity error, and none is refused."""
        return self.refused == 0 and not self.errors

    @property
    def errors(self) -> Sequence[RuleResult]:
        """The rules of severity error that some row fails."""
        return [rule for rule in self.rules if rule.failed and rule.severity == "error"]

    @property
    def warnings(self) -> Sequence[RuleResult]:
        """The rules of severity warning that some row fails."""
        return [rule for rule in self.rules if rule.failed and rule.severity != "error"]

    @classmethod
    def of(
        cls, rules: Sequence[Rule], counts: RuleCounts, unique: Mapping[str, RuleCounts], refused: int
    ) -> ValidationResult:
        """The result of *rules*; *unique* are the counts of those of that type, by id."""
        return cls(
            rows=counts.rows,
            refused=refused,
            rules=[_result(rule, unique.get(rule.id, counts)) for rule in rules],
        )


def _result(rule: Rule, counts: RuleCounts) -> RuleResult:
    return RuleResult(
        rule_id=rule.id,
        name=rule.name,
        rule_type=rule.rule_type,
        column=rule.subject,
        severity=rule.severity,
        message=rule.message,
        rows=counts.rows,
        failed=counts.failed.get(rule.id, 0),
        samples=[FailingRow(**sample._asdict()) for sample in counts.samples.get(rule.id, ())],
    )
