"""Event models and columnar schemas, and the last word about a row that columns can't prove right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, PydanticUndefinedAnnotation, ValidationError

from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig
from streamcore.schema.checks import ModelCompiler
from streamcore.schema.types import row_model, type_named
from streamcore.schema.values import column_value

Bools = npt.NDArray[np.bool_]


class Event(BaseModel):
    """Base of a stream's events: a pydantic model whose fields are the stream's columns.

    Fields become columns: int Int64, float Float64, str String, bool Boolean, bytes Binary (base64 in
    JSON), date Date, Decimal Decimal(max_digits or 38, decimal_places or 9), Literal and Enum the
    column of their values, list[X] List, a nested model Struct.

    ``datetime`` is an instant: the column is in UTC and a value without an offset is taken as UTC.
    ``NaiveDatetime`` gives a column without a zone and refuses offsets. ``X | None`` may be missing.
    Fields may be filled by alias or by name. Unknown input fields are ignored unless the model forbids them.
    """

    model_config = ConfigDict(populate_by_name=True, val_json_bytes="base64", ser_json_bytes="base64")


class Refusal(NamedTuple):
    """Why a row was refused: a short stable code and a message without the row's content."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """What a stream's rows look like once decoded.

    ``columns``: names and types. ``required``: columns that may not be null. ``event``: the model
    that decides about rows which the column checks can't pass, or None. ``aliases``: input name of
    a field -> column, for inputs whose names are no Python names.
    """

    columns: pl.Schema
    required: frozenset[str] = frozenset()
    event: type[Event] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    _judge: list[RowJudge] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, event: type[Event]) -> StreamSchema:
        """The columns of a pydantic model; BadConfig names a field whose type can't be a column."""
        try:
            compiled = ModelCompiler(event).compile()
        except PydanticUndefinedAnnotation as error:
            raise BadConfig(
                f"{event.__name__} uses a type that does not exist",
                got=error.name,
                fix="define or import it before the first stream that uses the event",
            ) from error
        columns = pl.Schema({c.attribute: c.dtype for c in compiled.columns})
        _refuse_hidden(columns, event.__name__)
        aliases = {n: c.attribute for c in compiled.columns for n in c.names if n != c.attribute}
        required = frozenset(
            c.attribute
            for c in compiled.columns
            if event.model_fields[c.attribute].is_required() and not c.null_ok
        )
        return cls(columns, required, event, aliases)

    @classmethod
    def from_columns(
        cls,
        columns: pl.Schema | Mapping[str, str | pl.DataType | type[pl.DataType]],
        required: frozenset[str] = frozenset(),
    ) -> StreamSchema:
        """A schema without a model, e.g. ``{"id": "int64"}``; values must have exactly these types."""
        types = {n: type_named(t) if isinstance(t, str) else t for n, t in columns.items()}
        schema = pl.Schema({n: t() if isinstance(t, type) else t for n, t in types.items()})
        _refuse_hidden(schema, "the columns")
        if unknown := required - set(schema):
            raise BadConfig("required names no column", got=sorted(unknown)[0], allowed=schema)
        return cls(schema, required)

    @property
    def judge(self) -> RowJudge:
        """Compiled on first use."""
        if not self._judge:
            self._judge.append(RowJudge(self))
        return self._judge[0]

    def parse(self, obj: object, document: bytes | None = None) -> dict[str, Any] | Refusal:
        """The column values of one decoded object, or why it is refused. Slow: for rows in doubt only.

        *document* is the JSON text of *obj*: pydantic then judges by the rules of JSON (a date is a
        string) and numbers keep all their digits.
        """
        return self.judge.parse(obj, document)


def _refuse_hidden(columns: pl.Schema, where: str) -> None:
    for name in columns:
        if name in HIDDEN:
            raise BadConfig(
                f"column name {name!r} is taken by streamcore",
                where=where,
                fix="rename it, or give it an alias",
            )


def rows_where(frame: pl.DataFrame, tests: Sequence[pl.Expr]) -> Bools:
    """Rows of *frame* for which any of the boolean *tests* is true (a null is not), shape (rows,)."""
    if not tests:
        return np.zeros(frame.height, bool)
    # In one call: on small frames a call costs more than a test.
    return frame.select(pl.any_horizontal(tests).fill_null(False).alias("found"))["found"].to_numpy()


class RowJudge:
    """pydantic's word on single rows, and the column checks that make asking it rare.

    With ``needs_python`` it must see all rows. ``names``: the input names of each column, in order.
    """

    def __init__(self, schema: StreamSchema) -> None:
        self._model: type[BaseModel] = schema.event or row_model(dict(schema.columns), schema.required)
        self._validator = self._model.__pydantic_validator__
        compiled = ModelCompiler(self._model, takes_any=schema.event is None).compile()
        columns = list(zip(schema.columns.items(), compiled.columns, strict=True))
        self.needs_python = compiled.needs_python
        self.names = {name: c.names for (name, _), c in columns}
        self._known = frozenset(n for _, c in columns for n in (c.attribute, *c.names))
        self._fills = tuple(c.names for _, c in columns if c.fill)
        converted = [(name, c.attribute, column_value(dtype, c.members)) for (name, dtype), c in columns]
        self._direct = tuple((name, at) for name, at, convert in converted if convert is None)
        self._converted = tuple((name, at, convert) for name, at, convert in converted if convert is not None)
        self._never_null = tuple(name for (name, _), c in columns if not c.null_ok)
        self._doubts = tuple(doubt(pl.col(name)) for (name, _), c in columns for doubt in c.doubts)

    def null_ok(self, column: str) -> bool:
        """Whether a null in *column* means null: otherwise pydantic must see it (refusal, or a default)."""
        return column not in self._never_null

    def in_doubt(self, frame: pl.DataFrame) -> Bools:
        """Rows of *frame* (the schema's columns) that pydantic must see, shape (rows,)."""
        if self.needs_python:
            return np.ones(frame.height, bool)
        mask = np.zeros(frame.height, bool)
        for name in self._never_null:
            if frame[name].has_nulls():
                mask |= frame[name].is_null().to_numpy()
        return mask | rows_where(frame, self._doubts)

    def parse(self, obj: object, document: bytes | None) -> dict[str, Any] | Refusal:
        """See :meth:`StreamSchema.parse`."""
        if not isinstance(obj, dict):
            return Refusal("type", "expected an object with the event's fields")
        missing = [names[0] for names in self._fills if not any(n in obj for n in names)]
        try:
            instance = self._validate(obj, document, missing)
        except ValidationError as error:
            return Refusal("schema", self._message(error))
        except Exception as error:  # noqa: BLE001 - a validator of the user's, or pydantic's for Decimal([])
            return Refusal("schema", f"{type(error).__name__} raised by a validator")
        values = instance.__dict__
        row = {column: values[attribute] for column, attribute in self._direct}
        for column, attribute, convert in self._converted:
            try:
                row[column] = convert(values[attribute])
            except (OverflowError, ValueError):
                return Refusal("schema", f"{column}: the value does not fit the column's type")
        return row

    def _validate(self, obj: dict[str, Any], document: bytes | None, missing: list[str]) -> Any:
        if document is None:
            return self._validator.validate_python({**dict.fromkeys(missing), **obj} if missing else obj)
        if missing:
            nulls = b",".join(json.dumps(name).encode() + b":null" for name in missing)
            document = document.rstrip()[:-1] + (b"," if obj else b"") + nulls + b"}"
        try:
            return self._validator.validate_json(document)
        except ValidationError as error:
            # pydantic's own JSON reader stops at a depth of 200, ours at 1,024.
            if error.error_count() == 1 and error.errors(include_input=False)[0]["type"] == "json_invalid":
                return self._validator.validate_python({**dict.fromkeys(missing), **obj})
            raise

    def _message(self, error: ValidationError) -> str:
        """The first errors' places and messages: never the input, nor names that only the input has."""
        parts = []
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]:
            place = ".".join(str(p) if isinstance(p, int) or p in self._known else "…" for p in item["loc"])
            parts.append(f"{place}: {item['msg']}" if place else item["msg"])
        rest = error.error_count() - len(parts)
        return "; ".join(parts)[:500] + (f" (and {rest} more)" if rest > 0 else "")
