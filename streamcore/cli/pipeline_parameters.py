"""What commands about pipelines take as values: parameters of runs, and times."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import click


class Parameter(click.ParamType):
    """``NAME=VALUE``; a value that is JSON is taken as that, anything else as a text."""

    name = "parameter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is no parameter; write NAME=VALUE", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


class Time(click.ParamType):
    """ISO 8601, as a date, a time on the walls of the schedule's zone, or with its distance from UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            return dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-03-29, 2026-03-29T02:30 or …T02:30Z", param, ctx)
