"""What is asked of a pipeline's notifications before it is registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import JsonValue, ValidationError

from streamcore.errors import BadConfig
from streamcore.pipelines.models import PipelineConfig
from streamcore.pipelines.notifications.channels import channel_of, model_of, with_defaults, wrong
from streamcore.pipelines.problems import Problem, of_validation
from streamcore.pipelines.references import check_environment, unfilled
from streamcore.settings.model import Notifications

At = tuple[str | int, ...]


def notification_problems(config: PipelineConfig, defaults: Notifications | None) -> Iterator[Problem]:
    """All that is wrong. Without *defaults* nothing is asked for that the settings may say."""
    for event, one in config.notifications.items():
        at: At = ("notifications", event)
        given = cast("dict[str, JsonValue]", one.model_dump())
        found = list(channel_problems(at, given, defaults))
        yield from found
        if found:
            continue
        after = channel_of(given).after
        if event == "on_sla_miss" and after is None:
            yield Problem((*at, "after"), "after is missing: how long a run may take", fix='add after: "2h"')
        elif event != "on_sla_miss" and after is not None:
            yield Problem((*at, "after"), f"after is for on_sla_miss, not for {event}", fix="remove it")


def channel_problems(
    at: At, given: Mapping[str, JsonValue], defaults: Notifications | None
) -> Iterator[Problem]:
    """What is wrong with the fields of a way, at the place *at*."""
    for key, value in given.items():
        if name := next(unfilled(value), None):
            fix = "write {run_id}, {pipeline_name} and the like"
            yield Problem((*at, key), f"a notification can't refer to {':'.join(name)}", fix=fix)
            return
        try:
            check_environment(value)
        except BadConfig as error:
            yield Problem((*at, key), error.what, allowed=error.allowed, fix=error.fix)
            return
    try:
        model = model_of(given.get("type"))
    except BadConfig as error:
        yield Problem((*at, "type"), error.what, error.got, error.allowed, error.fix)
        return
    try:
        channel = channel_of(given)
    except ValidationError as error:
        yield from of_validation(error, model, at)
        return
    if defaults is not None:
        for field, found in wrong(with_defaults(channel, defaults)):
            yield Problem((*at, field), found.what, found.got, found.allowed, found.fix)
