"""Commands as a stream: a record starts a run, cancels one, or goes on with one that failed.

A run that a record starts has a name that is made of the record's place, so a record that is read again
starts none. What is no command, or of something that is not there, is a dead letter.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from streamcore.batch import OFFSET, Batch, PartitionId, Rejects
from streamcore.contracts import SinkAbilities, SinkContext, SinkWriter
from streamcore.errors import BadConfig
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.states import RUN_ENDS
from streamcore.pipelines.checks import NAME
from streamcore.pipelines.commands import new_run, reopen
from streamcore.pipelines.problems import of_validation
from streamcore.sinks.direct import DirectWriter

_NAMES = uuid.UUID("5f2a4c1e-8d0b-5b7e-9a43-6f0c2d9e7b18")
"""The name space of runs that records start."""


class Command(BaseModel):
    """What a record of the stream of commands says, in JSON.

    ``trigger`` needs a ``pipeline_id`` and may have ``parameters``, a ``priority`` and the ``run_id`` that
    the run is to have; ``cancel`` and ``rerun`` need a ``run_id``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    command: Literal["trigger", "cancel", "rerun"]
    pipeline_id: str | None = Field(None, pattern=NAME.pattern)
    run_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    priority: int = Field(0, ge=-100, le=100)

    @model_validator(mode="after")
    def _whole(self) -> Command:
        needed = "pipeline_id" if self.command == "trigger" else "run_id"
        if getattr(self, needed) is None:
            raise ValueError(f"{self.command} needs a {needed}")
        return self


async def carry_out(store: Store, command: Command, default_id: str, now: int) -> None:
    """Do what *command* says; *default_id* names the run that it starts. Done again it changes nothing.

    BadConfig: there is no such pipeline, parameter or run, or the run's state does not allow it.
    """
    run_id = command.run_id or default_id
    if command.command == "trigger":
        assert command.pipeline_id is not None
        new = await _new_run(store, command.pipeline_id, run_id, command)
        await store.create_run(new, now)
        return
    run = await store.run(run_id)
    if run is None:
        raise BadConfig(f"there is no run {run_id!r}", fix="take the id of one from `pipeline history`")
    if command.command == "cancel":
        await store.cancel(run_id, now)
    elif run.status in RUN_ENDS:
        await reopen(store, run_id, now)


async def _new_run(store: Store, pipeline_id: str, run_id: str, command: Command) -> NewRun:
    try:
        new, _ = await new_run(store, pipeline_id, run_id, command.parameters, priority=command.priority)
    except ValidationError:
        raise BadConfig(
            f"pipeline {pipeline_id!r} was registered by another streamcore", fix="register it with this one"
        ) from None
    return new


@dataclass(frozen=True)
class Commands:
    """A sink that carries out the commands in the column ``value`` (Binary), in *store*."""

    store: Store = field(repr=False)
    clock: Callable[[], int] = field(repr=False)
    name: str = "orchestrator"

    @property
    def abilities(self) -> SinkAbilities:
        """Appends."""
        return SinkAbilities()

    def check(self, columns: pl.Schema) -> None:
        """BadConfig unless there is a column ``value`` of bytes."""
        if columns.get("value") != pl.Binary:
            raise BadConfig("commands are read from a column 'value' of bytes", got=columns.names())

    def writer(self, context: SinkContext) -> SinkWriter:
        """The live part."""
        return _CommandWriter(self, context)


class _CommandWriter(DirectWriter):
    def __init__(self, sink: Commands, context: SinkContext) -> None:
        super().__init__()
        self._sink, self._context = sink, context

    async def _take(self, batch: Batch) -> None:
        refused: list[Rejects] = []
        for row in batch.frame.iter_slices(1):
            try:
                command = _read(row["value"][0])
                run_id = _run_at(batch.source, row[OFFSET][0])
                await carry_out(self._sink.store, command, run_id, self._sink.clock())
            except BadConfig as error:
                refused.append(Rejects.of(row, self._context.sink, "command", str(error)))
        if refused:
            await self._context.refuse(batch, Rejects.join(refused))


def _read(value: bytes | None) -> Command:
    try:
        return Command.model_validate_json(value or b"")
    except ValidationError as error:
        problem = next(of_validation(error, Command))
        raise problem.error("command") from None


def _run_at(source: PartitionId, offset: int) -> str:
    """The name of the run that the record at *offset* starts."""
    return uuid.uuid5(_NAMES, f"{source.topic_id}/{source.partition}/{offset}").hex
