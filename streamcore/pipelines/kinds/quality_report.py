"""Rules, metrics, a profile and drift of a dataset, by :class:`streamcore.engines.quality.QualityEngine`.

Nothing is changed; what was found is kept under the task's effect, so that an attempt that follows a lost one
does not keep it twice. Without ``source_config`` it reads what the task before it has written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskFailed, TaskResult
from streamcore.pipelines.kinds.datasets import SourceConfig, source_of

if TYPE_CHECKING:
    from streamcore.quality.report import QualityReport


class QualityReportOptions(Options):
    """What is asked of which dataset, and where the report goes."""

    source_config: SourceConfig | None = Field(
        None, repr=False, description="A path, a URI or a source's dictionary."
    )
    rules: Path | None = Field(
        None, description="YAML file: rules, thresholds and more, see docs/quality.md."
    )
    quality: dict[str, Any] = Field(
        default_factory=dict, description="The same keys, which win over those of the file."
    )
    output: Path | None = Field(None, description="HTML page to write.")
    store: str | None = Field(
        None, repr=False, description="URL of the store that keeps results; metadata.url when not set."
    )
    fail_on: Literal["fail", "warn", "nothing"] = Field(
        "fail", description="The level of the report from which on the task fails."
    )


async def run(options: QualityReportOptions, context: TaskContext) -> TaskResult:
    """Look at it once, and report."""
    from streamcore.engines.quality import QualityEngine
    from streamcore.engines.quality_files import write_page
    from streamcore.engines.quality_history import QualityHistory
    from streamcore.quality.config import quality_config

    config = quality_config(_given(options))
    asked = options.source_config if options.source_config is not None else config.source
    with QualityHistory(options.store) as history:
        report = await QualityEngine(history).run(
            asked if asked is not None else source_of(None, context),
            config,
            run_id=context.effect_id,
            on_progress=lambda progress: context.report(progress.rows_in, progress.bytes_in),
        )
    if options.output is not None:
        write_page(options.output, report)
    said = "; ".join([f"{report.dataset}: {report.level}", *_found(report)])
    if options.output is not None:
        said += f"; see {options.output}"
    context.log(said)
    if report.level in {"fail": ("fail",), "warn": ("fail", "warn"), "nothing": ()}[options.fail_on]:
        raise TaskFailed(said)
    return TaskResult(rows=report.rows, message=said)


def _given(options: QualityReportOptions) -> dict[str, Any]:
    from streamcore.quality.config import read_rules

    return {**(read_rules(options.rules) if options.rules else {}), **options.quality}


def _found(report: QualityReport) -> Iterable[str]:
    """What is not as it should be, in a few words each."""
    if report.refused:
        yield f"{report.refused} rows could not be read"
    for metric in report.metrics:
        if metric.level != "ok":
            yield f"{metric.metric}{f' of {metric.column}' if metric.column else ''} is {metric.value:.2%}"
    for rule in report.validation.rules if report.validation else ():
        if report.rule_levels[rule.rule_id] != "ok":
            yield f"{rule.failed} rows fail {rule.rule_id}"
    for column in report.drift.columns if report.drift else ():
        if column.level != "ok":
            yield f"{column.name} has moved: {', '.join(column.reasons)}"


def _check(options: QualityReportOptions) -> str | None:
    from streamcore.quality.config import quality_config

    try:
        quality_config(_given(options))
    except BadConfig as error:
        return str(error)
    return None


QUALITY_REPORT = Kind(
    QualityReportOptions,
    run,
    in_child=lambda options: True,
    ahead=("streamcore.engines.quality",),
    check=_check,
)
