"""Rules over a source, by :class:`streamcore.engines.validator.DataValidator`. Nothing is changed.

Without ``source_config`` it reads what the task before it has written. The task fails when rows fail a rule
of severity error (or warning, if asked), or can't be read; that is not tried again, since the rows stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskFailed, TaskResult
from streamcore.pipelines.kinds.datasets import SourceConfig, source_of

if TYPE_CHECKING:
    from streamcore.quality.validation_result import ValidationResult


class ValidationOptions(Options):
    """Which rules, over what."""

    validation_rules: tuple[dict[str, Any], ...] = Field(min_length=1, description="Rules as dictionaries.")
    source_config: SourceConfig | None = Field(
        None, repr=False, description="A path, a URI or a source's dictionary."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Types of columns by name, where the first rows don't tell them."
    )
    secret_columns: tuple[str, ...] = Field((), description="Columns whose values are not shown in samples.")
    fail_on: Literal["error", "warning", "nothing"] = Field(
        "error", description="The least severity of a rule that fails the task."
    )


async def run(options: ValidationOptions, context: TaskContext) -> TaskResult:
    """Count all rules over all rows."""
    from streamcore.engines.validator import DataValidator

    validator = DataValidator(list(options.validation_rules), secret_columns=options.secret_columns)
    result = await validator.validate_source(
        source_of(options.source_config, context),
        columns=options.columns or None,
        on_progress=lambda progress: context.report(progress.rows_in, progress.bytes_in),
    )
    said = _said(result, context)
    failed = {
        "error": bool(result.errors or result.refused),
        "warning": bool(result.errors or result.warnings or result.refused),
        "nothing": False,
    }
    if failed[options.fail_on]:
        raise TaskFailed(said)
    return TaskResult(rows=result.rows, message=said)


def _said(result: ValidationResult, context: TaskContext) -> str:
    """The rules that some row fails, in a line; each with its first rows in the log."""
    found = [f"{result.refused} rows could not be read"] if result.refused else []
    for rule in [*result.errors, *result.warnings]:
        found.append(f"{rule.rule_id} ({rule.severity}): {rule.failed} of {rule.rows} rows fail")
        context.log(found[-1])
        for sample in rule.samples:
            context.log(f"  row {sample.position}: {dict(sample.row)}")
    return "; ".join(found) or f"{result.rows} rows, all rules hold"


VALIDATION = Kind(
    ValidationOptions, run, in_child=lambda options: True, ahead=("streamcore.engines.validator",)
)
