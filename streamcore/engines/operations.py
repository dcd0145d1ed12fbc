"""The guide's ``transformation_config``: operations as dictionaries, each of which is a step of a stream.

::

    {"operations": [{"type": "filter", "condition": "age >= 18"},
                    {"type": "rename", "mapping": {"old": "new"}}]}

An operation is a model of its keys and one call on a :class:`~streamcore.stream.Stream`: what it does is said
there. A new one is a class here and one line in :data:`OPERATIONS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamcore.errors import BadConfig, did_you_mean
from streamcore.joined import On
from streamcore.stream import Stream
from streamcore.transforms import masks
from streamcore.validation import rules
from streamcore.windows.assigners import global_window, tumbling

Read: TypeAlias = Callable[[Any], pl.DataFrame]
"""Gives the rows that a path, a URI or a source's dictionary names."""


class Operation(BaseModel, ABC):
    """One operation of a configuration. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    timed: ClassVar[bool] = False
    """Whether its rows need an event time."""

    @abstractmethod
    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        """*stream* with the step, called *name*, behind it. BadConfig as the stream's methods raise it."""


class FilterRows(Operation):
    """Keep the rows for which the SQL *condition* is true."""

    condition: str

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.filter(self.condition, name=name)


class AddColumn(Operation):
    """Add or replace *column* with the value of the SQL *expression*."""

    column: str
    expression: str

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.add_column(self.column, self.expression, name=name)


class Rename(Operation):
    """Give columns other names, by *mapping* of old to new."""

    mapping: Mapping[str, str]

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.rename(self.mapping, name=name)


class CastType(Operation):
    """Change types, by *type_mapping* of column to type; a row whose value does not fit is refused."""

    type_mapping: Mapping[str, str]

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.cast_type(self.type_mapping, name=name)


class Select(Operation):
    """Keep *columns*, in this order."""

    columns: list[str]

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.select(*self.columns, name=name)


class Drop(Operation):
    """Remove *columns*."""

    columns: list[str]

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.drop(*self.columns, name=name)


class Mask(Operation):
    """Put masks over *columns*: each name with ``{"how": "redact", "partial" or "hash", …}``."""

    columns: Mapping[str, Mapping[str, Any]]

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        made = {column: masks.from_dict(given) for column, given in self.columns.items()}
        return stream.mask(made, name=name)


class Validate(Operation):
    """Check *rules* (as of ``sc.rules.from_dict``); failing rows are refused, or as *on_fail* says."""

    rules: list[Mapping[str, Any]]
    on_fail: str | None = None
    flag_column: str | None = None

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        made = [rules.from_dict(rule) for rule in self.rules]
        return stream.validate(*made, on_fail=self.on_fail, flag_column=self.flag_column, name=name)


class Lookup(Operation):
    """Add the columns of *reference* (a path, a URI, a source's dictionary) where *on* is equal."""

    reference: str | Mapping[str, Any] | pl.DataFrame
    on: On
    how: Literal["inner", "left"] = "left"

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        given = self.reference
        frame = given if isinstance(given, pl.DataFrame) else read(given)
        return stream.lookup(frame, on=self.on, how=self.how, name=name)


class Deduplicate(Operation):
    """Keep the first row of each combination of values of *columns*; of all without."""

    columns: list[str] | None = None

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.by(*(self.columns or stream.columns.names())).first(name=name)


class Aggregate(Operation):
    """One row for each combination of values of *by*: *aggregates* in SQL text by their names.

    With *window*, e.g. "1d", one for each window of event time, which the configuration must name.
    """

    by: list[str] = Field(default_factory=list)
    aggregates: Mapping[str, str]
    window: str | None = None
    timed = True

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        kind = global_window() if self.window is None else tumbling(self.window)
        made = stream.window(kind).by(*self.by).aggregate(name=name, **self.aggregates)
        return made if self.window else made.select(*self.by, *self.aggregates, name=f"{name}-rows")


class _Calling(Operation, ABC):
    """*function* is a Python function; *returns* are the columns of what it gives, where they differ."""

    function: Callable[..., Any]
    returns: Mapping[str, str] | None = None


class MapRows(_Calling):
    """A function of a row. Slow: Python a row."""

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.map(self.function, returns=self.returns, name=name)


class FlatMapRows(_Calling):
    """A function of a row that gives any number of rows. Slow: Python a row."""

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.flat_map(self.function, returns=self.returns, name=name)


class MapBatches(_Calling):
    """A function of a polars frame, which must keep its hidden columns."""

    def apply(self, stream: Stream, name: str, read: Read) -> Stream:
        return stream.map_batches(self.function, returns=self.returns, name=name)


OPERATIONS: Mapping[str, type[Operation]] = {
    "filter": FilterRows,
    "add_column": AddColumn,
    "rename": Rename,
    "cast_type": CastType,
    "select": Select,
    "drop": Drop,
    "validate": Validate,
    "mask": Mask,
    "lookup": Lookup,
    "deduplicate": Deduplicate,
    "aggregate": Aggregate,
    "map": MapRows,
    "flat_map": FlatMapRows,
    "map_batches": MapBatches,
}


class Transformation(BaseModel):
    """A whole configuration, read by :func:`transformation`. ``event_time`` is a column: windows go by it."""

    model_config = ConfigDict(frozen=True)
    operations: Sequence[tuple[str, Operation]]
    event_time: str | None = None
    max_lateness: str = "0s"

    def apply(self, stream: Stream, read: Read) -> Stream:
        """*stream* through all operations; BadConfig names the operation by its number and type."""
        for number, (kind, operation) in enumerate(self.operations, 1):
            try:
                stream = operation.apply(stream, name_of(number, kind), read)
            except BadConfig as error:
                raise _at(error, number, kind) from error
        return stream


def transformation(config: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Transformation:
    """What a dictionary, or a list of operations, says. BadConfig when it can't be meant."""
    given = config if isinstance(config, Mapping) else {"operations": config}
    known = list(Transformation.model_fields)
    for key in given:
        if key not in known:
            fix = did_you_mean(str(key), known)
            raise BadConfig("unknown key of a transformation", got=key, allowed=known, fix=fix)
    operations = given.get("operations")
    if not isinstance(operations, Sequence) or isinstance(operations, str) or not operations:
        raise BadConfig("a transformation needs a list of operations", got=operations)
    made = []
    for number, one in enumerate(operations, 1):
        kind = str(one.get("type")) if isinstance(one, Mapping) else ""
        try:
            made.append((kind, _operation(kind, one)))
        except BadConfig as error:
            raise _at(error, number, kind) from error
    rest = {key: value for key, value in given.items() if key != "operations"}
    return Transformation(operations=made, **rest)


def name_of(number: int, kind: str) -> str:
    """The node of operation *number*: where its refused rows say that they were refused."""
    return f"operation-{number}-{kind}"


def _operation(kind: str, given: Mapping[str, Any]) -> Operation:
    if not isinstance(given, Mapping):
        raise BadConfig("an operation is a mapping with a type", got=given)
    if kind not in OPERATIONS:
        fix = did_you_mean(kind, OPERATIONS)
        raise BadConfig("unknown type of operation", got=given.get("type"), allowed=OPERATIONS, fix=fix)
    model = OPERATIONS[kind]
    try:
        return model.model_validate({key: value for key, value in given.items() if key != "type"})
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        first = min(errors, key=lambda one: one["type"] != "extra_forbidden")  # a mistyped key is missing too
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise BadConfig(f"{key} is missing", allowed=model.model_fields) from None
        if first["type"] == "extra_forbidden":
            fix = did_you_mean(key, model.model_fields)
            raise BadConfig("unknown key", got=key, allowed=model.model_fields, fix=fix) from None
        raise BadConfig(f"{key}: {first['msg']}", got=given.get(str(first["loc"][0]))) from None


def _at(error: BadConfig, number: int, kind: str) -> BadConfig:
    where = f"operation {number}" + (f" ({kind})" if kind in OPERATIONS else "")
    return BadConfig(error.what, where=where, got=error.got, allowed=error.allowed, fix=error.fix)
