"""``ValidationRule``: the guide's rule dictionaries as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamcore.validation import Rule, rules


class ValidationRule(BaseModel):
    """A rule as configurations write it; checked when it is made, with BadConfig as the error.

    ``rule_type`` is the name of a function of ``sc.rules`` and ``parameters`` are its arguments:
    ``{"rule_type": "range", "column": "age", "parameters": {"min": 0, "max": 120}}``. One row that
    fails a rule of ``severity`` "error" makes a dataset invalid, "warning" only tells of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule_type: str = Field(description="What is checked, e.g. not_null, range, email, expression.")
    column: str | list[str] | None = Field(None, description="The column, or the columns of unique.")
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="Arguments of the rule type.")
    rule_id: str | None = Field(
        None, description="Names the rule in results. Its type and column if left out."
    )
    name: str | None = Field(None, description="For people.")
    severity: str = Field("error", description="error or warning.")
    on_fail: str | None = Field(None, description="What a stream does with failing rows.")

    @model_validator(mode="after")
    def _is_a_rule(self) -> ValidationRule:
        self.rule()
        return self

    def rule(self) -> Rule:
        """The rule that streams and validators work with."""
        return rules.from_dict(self.model_dump(exclude_none=True))


AnyRule: TypeAlias = "Rule | ValidationRule | Mapping[str, Any]"


def rules_of(given: Sequence[AnyRule]) -> list[Rule]:
    """The rules that *given* say. BadConfig for what is no rule."""
    made = []
    for one in given:
        if isinstance(one, Rule):
            made.append(one)
        else:
            made.append(one.rule() if isinstance(one, ValidationRule) else rules.from_dict(one))
    return made
