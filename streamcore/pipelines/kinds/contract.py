"""What a type of task is: its options, where it runs, and a coroutine that does the work.

**Who calls.** The orchestrator validates the parameters of a task by :attr:`Kind.options` when the pipeline
is registered and again, with references filled in, before each attempt. Then it awaits ``run(options,
context)`` once an attempt, in its own event loop or in a process of its own (:attr:`Kind.in_child`).

**Stopping.** A kind that runs in the loop is stopped by cancelling its coroutine: it must not block, and must
end what it began outside. A kind that can't promise that runs in a child, which is killed with all of its
group.

**What it returns.** A :class:`TaskResult`: datasets are *references* to what was written (the same
dictionaries that name sources), never the data.

**Errors.** :class:`BadConfig`, :class:`TaskFailed`: the attempt failed, and is not tried again. Any other
error: it failed, and is tried again as the task says. :class:`TaskSkipped`: there was nothing to do;
dependents are skipped too.

**Again.** An attempt may be lost after its effect and before its end is stored, and is then made again. A
kind whose effect is exactly once makes it under :attr:`TaskContext.effect_id`, which is the same in all
attempts at the task in a run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, JsonValue

from streamcore.errors import StreamcoreError
from streamcore.pipelines.models import Config

if TYPE_CHECKING:
    from streamcore.pipelines.guarded import Lifeline

Dataset: TypeAlias = str | Mapping[str, JsonValue]
"""Where data is, as a source's URI or dictionary, e.g. ``{"type": "file", "file_path": "x.csv"}``."""


class Options(Config):
    """Parameters of one type of task."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a parameter of a run may stand in a text's place

    continue_on_error: bool = Field(
        False, description="Whether a failure neither skips the dependents nor fails the run."
    )


class TaskSkipped(StreamcoreError):
    """Raised by a task that has nothing to do; the text is the reason."""


class TaskFailed(StreamcoreError):
    """Raised by a task that has done its work, and whose answer is no: trying again can't help."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """``datasets``: what was written, by name. ``rows`` and ``bytes``: how much, None: not known."""

    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    rows: int | None = None
    bytes: int | None = None
    message: str = ""


def _nobody_listens(rows: int | None, bytes: int | None) -> None:
    """What :attr:`TaskContext.report` does where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What an attempt is told. ``inputs``: the datasets of all tasks before it, by name.

    ``upstream``: the names of those that the tasks it depends on directly have written.
    ``report``: tells rows and bytes so far; ``log``: adds a line to the attempt's log. Both return at once.
    ``lifeline``: keeps processes that the attempt starts alive; None in a child.
    """

    pipeline_id: str
    run_id: str
    task_id: str
    attempt: int
    inputs: Mapping[str, Dataset] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()
    report: Callable[[int | None, int | None], None] = _nobody_listens
    log: Callable[[str], None] = lambda line: None
    lifeline: Lifeline | None = None

    @property
    def effect_id(self) -> str:
        """Names the effect of this task in this run: the same in every attempt, and in a re-run."""
        return f"{self.run_id}/{self.task_id}"


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True)
class Kind(Generic[OptionsT]):
    """One type of task. ``in_child``: whether it runs in a process of its own, not in the loop.

    ``ahead``: modules that its processes import before they have a task; None: none are started ahead.

    ``instant``: it does nothing, and is over as soon as its turn has come. ``check``: finds what is wrong in
    options that are right one by one; what it returns is told to the user.
    """

    options: type[OptionsT]
    run: Callable[[OptionsT, TaskContext], Awaitable[TaskResult]]
    in_child: Callable[[OptionsT], bool] = lambda options: False
    ahead: tuple[str, ...] | None = None
    instant: bool = False
    check: Callable[[OptionsT], str | None] = lambda options: None
