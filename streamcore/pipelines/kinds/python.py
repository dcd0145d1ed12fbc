"""A Python function of the user's: in a process of its own, or a coroutine in the orchestrator's loop.

It may be done twice, as any code that an orchestrator's end interrupts. A function that takes an argument
``context`` gets the :class:`~.contract.TaskContext`, whose ``effect_id`` is the same in every attempt. What
it returns is None, a :class:`~.contract.TaskResult`, or a mapping with its fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, JsonValue

from streamcore.errors import BadConfig, did_you_mean
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.references import resolved


class PythonOptions(Options):
    """Which function."""

    function: str = Field(
        pattern=r"^[\w./-]+:\w+$", description="package.module:function, or path/to/file.py:function."
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, repr=False, description="Arguments by name; references in them are resolved."
    )
    in_loop: bool = Field(
        False,
        description="Run a coroutine function in the orchestrator's loop: begins at once, must not block.",
    )


async def run(options: PythonOptions, context: TaskContext) -> TaskResult:
    """Call it."""
    function = _function(options.function)
    arguments: dict[str, Any] = {key: resolved(value) for key, value in options.arguments.items()}
    if "context" in inspect.signature(function).parameters:
        arguments["context"] = context
    is_coroutine = inspect.iscoroutinefunction(function)
    if options.in_loop and not is_coroutine:
        raise BadConfig(
            "only a coroutine function can run in the loop", got=options.function, fix="remove in_loop"
        )
    found = function(**arguments)
    return _result(await found if is_coroutine else found, options.function)


def _function(target: str) -> Callable[..., Any]:
    from streamcore.runtime.modules import load_module

    name, _, attribute = target.partition(":")
    module = load_module(name)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise BadConfig(
            f"{name} has no function {attribute!r}",
            allowed=known[:20],
            fix=did_you_mean(attribute, known) or "name one of them",
        )
    called: Callable[..., Any] = function
    return called


def _result(found: object, target: str) -> TaskResult:
    if found is None:
        return TaskResult()
    if isinstance(found, TaskResult):
        return found
    if isinstance(found, Mapping) and set(found) <= {"datasets", "rows", "bytes", "message"}:
        return TaskResult(**found)
    raise BadConfig(
        f"{target} returned a {type(found).__name__}",
        allowed=["None", "TaskResult", "a mapping of datasets, rows, bytes, message"],
        fix="write the data somewhere and return its dataset: tasks pass references, not data",
    )


PYTHON = Kind(PythonOptions, run, in_child=lambda options: not options.in_loop)
