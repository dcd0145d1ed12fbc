"""What can be asked of pipelines, by whoever has the store: a new run, the end of one, a run once more.

An orchestrator need not be near: it takes up what is queued, and stops what is to be cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from streamcore.errors import BadConfig, did_you_mean
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.states import PipelineStatus
from streamcore.pipelines.checks import Kinds
from streamcore.pipelines.deciding import Plan, to_reopen
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.models import PipelineConfig


def plan_of(config: str, kinds: Kinds = KINDS) -> Plan:
    """The plan of a pipeline that is stored as *config*; ValidationError when this version can't read it."""
    read = PipelineConfig.model_validate_json(config)
    types = {task.task_id: task.task_type for task in read.tasks}
    instant = [id for id, type in types.items() if type is not None and type in kinds and kinds[type].instant]
    return Plan.of(read, instant)


async def new_run(
    store: Store,
    pipeline_id: str,
    run_id: str,
    parameters: Mapping[str, JsonValue],
    *,
    priority: int = 0,
    kinds: Kinds = KINDS,
) -> tuple[NewRun, Plan]:
    """A run of the newest version, queued and not stored yet, and its plan.

    BadConfig: no such pipeline, or it has no such parameter.
    """
    record = await store.pipeline(pipeline_id)
    if record is None:
        known = [one.pipeline_id for one in await store.pipelines()]
        raise BadConfig(
            f"there is no pipeline {pipeline_id!r}",
            allowed=known,
            fix=did_you_mean(pipeline_id, known) or "register it first",
        )
    plan = plan_of(record.config, kinds)
    check_parameters(plan.config, parameters)
    version, order = record.version, plan.graph.order
    return NewRun(run_id, pipeline_id, version, order, dict(parameters), priority=priority), plan


async def reopen(store: Store, run_id: str, now: int) -> None:
    """Queue a failed or cancelled run again: what succeeded stays.

    BadConfig: no such run, or it is in another state.
    """
    again = to_reopen(await store.tasks(run_id))
    if await store.reopen(run_id, again, now):
        return
    run = await store.run(run_id)
    raise BadConfig(
        f"run {run_id} can't be run again" if run else f"there is no run {run_id!r}",
        got=str(run.status) if run else None,
        allowed=[PipelineStatus.FAILED, PipelineStatus.CANCELLED],
    )


def check_parameters(config: PipelineConfig, given: Mapping[str, JsonValue]) -> None:
    """BadConfig for a parameter of a run that its pipeline does not have."""
    known = config.parameters
    for name in given:
        if name not in known:
            raise BadConfig(
                f"pipeline {config.pipeline_id!r} has no parameter {name!r}",
                allowed=sorted(known),
                fix=did_you_mean(name, known) or f"add {name} with its default to the pipeline's parameters",
            )
