"""Avro schemas: what a writer's says, as a tree of parts, and the schema of columns.

Source: the Avro 1.12 specification, https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import fastavro
import polars as pl

from streamcore.errors import BadConfig
from streamcore.schema.types import instance_of

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

VARINTS = frozenset({"int", "long"})
SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
"""Bytes that a value takes, where that is always the same."""
_LENGTHS = frozenset({"string", "bytes"})
_PRIMITIVES = VARINTS | SIZES.keys() | _LENGTHS
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_SCHEMA = (ValueError, TypeError, LookupError, RecursionError, fastavro.schema.SchemaParseException)
_MOST_PARTS = 10_000
"""A schema that names a record in each field of another grows without bound when it is written out."""


@dataclass(frozen=True, slots=True)
class Part:
    """A type, with all names in it replaced by what they stand for.

    ``kind`` is Avro's word, or "optional" for a union of null and one other type: ``parts`` has that one, or
    those of a record's fields, an array's or map's items, a union. ``size``: bytes of a fixed. ``columnar``:
    whether polars reads it.
    """

    kind: str
    spelled: Json
    parts: tuple[Part, ...] = ()
    size: int = 0
    logical: str = ""
    symbols: tuple[str, ...] = ()
    columnar: bool = True

    @property
    def takes_nothing(self) -> bool:
        """Whether a value may have no bytes: an array of them says in ten bytes that it has 2^60."""
        if self.kind in ("record", "fixed"):
            return not self.size and all(part.takes_nothing for part in self.parts)
        return self.kind == "null"


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """The schema that records were written with: of a record, not recursive."""

    record: Part
    parsed: Mapping[str, Json] = field(repr=False)
    """As fastavro wants it."""

    @property
    def name(self) -> str:
        """The record's."""
        return str(self.parsed["name"])

    @classmethod
    def of(cls, text: str, references: Iterable[str] = ()) -> WriterSchema:
        """The schema *text*, JSON, in which the schemas *references* are known, each after what it needs.

        BadConfig for what is no schema, or none whose records can be read into rows.
        """
        named: dict[str, dict[str, Json]] = {}
        try:
            for reference in references:
                fastavro.parse_schema(json.loads(reference), named_schemas=named)
            parsed = fastavro.parse_schema(json.loads(text), named_schemas=named)
        except fastavro.schema.UnknownType as error:
            raise BadConfig("an Avro schema uses a type that it does not define", got=error.name) from None
        except _NO_SCHEMA as error:
            raise BadConfig("no Avro schema", got=type(error).__name__, fix="see the schema's text") from None
        if not isinstance(parsed, Mapping) or parsed.get("type") not in ("record", "error"):
            raise BadConfig("an Avro schema of rows is that of a record", got=_kind_of(parsed))
        return cls(_Parts(named).part(parsed), parsed)


@dataclass(slots=True)
class _Parts:
    """Makes parts of parsed schemas; *named* are those that may be called by name."""

    named: Mapping[str, Json]
    inside: list[str] = field(default_factory=list)
    made: int = 0

    def part(self, schema: Json) -> Part:
        """*schema* written out. BadConfig for one that is endless, or that could not be read safely."""
        self.made += 1
        if self.made > _MOST_PARTS:
            raise BadConfig("an Avro schema has too many parts", allowed=[_MOST_PARTS])
        if isinstance(schema, str) and schema not in _PRIMITIVES:
            return self.part(self.named[schema])
        if isinstance(schema, Sequence) and not isinstance(schema, str):
            return self._union([self.part(branch) for branch in schema])
        attributes = schema if isinstance(schema, Mapping) else {}
        kind = str(attributes.get("type", schema))
        if kind in ("record", "error"):
            return self._record(attributes)
        if kind in ("array", "map"):
            return self._repeated(kind, attributes)
        if kind in _PRIMITIVES or kind in ("fixed", "enum"):
            return _leaf(kind, attributes)
        return self.part(attributes["type"])  # {"type": {"type": …}}

    def _record(self, schema: Mapping[str, Json]) -> Part:
        name = str(schema["name"])
        if name in self.inside:  # it ends the process: fastavro recurses in C, as deep as the bytes say
            raise BadConfig("a recursive Avro schema can't be read into rows", got=name)
        self.inside.append(name)
        fields = [one for one in _sequence(schema["fields"]) if isinstance(one, Mapping)]
        parts = tuple(self.part(one["type"]) for one in fields)
        self.inside.pop()
        spelled = [
            {"name": one["name"], "type": part.spelled} for one, part in zip(fields, parts, strict=True)
        ]
        columnar = bool(parts) and all(part.columnar for part in parts)
        return Part("record", {"type": "record", "name": name, "fields": spelled}, parts, columnar=columnar)

    def _repeated(self, kind: str, schema: Mapping[str, Json]) -> Part:
        items = "items" if kind == "array" else "values"
        part = self.part(schema[items])
        if kind == "array" and part.takes_nothing:
            raise BadConfig("an Avro array of values without bytes can't be read safely")
        return Part(
            kind, {"type": kind, items: part.spelled}, (part,), columnar=kind == "array" and part.columnar
        )

    @staticmethod
    def _union(branches: Sequence[Part]) -> Part:
        kinds = [branch.kind for branch in branches]
        spelled = [branch.spelled for branch in branches]
        if len(kinds) != 2 or kinds.count("null") != 1:
            return Part("union", spelled, tuple(branches), columnar=False)
        value = branches[1 - kinds.index("null")]
        return Part("optional", spelled, (value,), columnar=value.columnar)


def _leaf(kind: str, schema: Mapping[str, Json]) -> Part:
    logical = schema.get("logicalType")
    kept = {
        k: schema[k] for k in ("logicalType", "precision", "scale", "symbols", "size", "name") if k in schema
    }
    return Part(
        kind,
        {"type": kind, **kept} if kept else kind,
        size=int(str(schema["size"])) if kind == "fixed" else 0,
        logical=str(logical or ""),
        symbols=tuple(map(str, _sequence(schema.get("symbols", ())))),
        # Twelve bytes of months, days and milliseconds: no type of ours.
        columnar=not (kind == "fixed" and logical is not None),
    )


def _sequence(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _kind_of(schema: object) -> str:
    return str(
        schema.get("type") if isinstance(schema, Mapping) else schema if isinstance(schema, str) else "union"
    )


# ------------------------------------------------------------ of columns


def schema_of(columns: pl.Schema, name: str = "row") -> str:
    """The schema, JSON, of rows with *columns*: each may be null, which is its default.

    BadConfig for a column whose name or type Avro does not have.
    """
    fields = [{"name": n, "type": ["null", _type_of(t, n)], "default": None} for n, t in columns.items()]
    return json.dumps({"type": "record", "name": name, "fields": fields})


def _type_of(dtype: pl.DataType, where: str, whole: bool = True) -> Json:
    """*dtype* in Avro. *where*: the name of its column, or its place in that; *whole*: it is all of it."""
    if not _NAME.fullmatch(where.rpartition(".")[2]):
        raise BadConfig(f"column {where!r} can't be a name in Avro", fix="rename it to letters, digits and _")
    if isinstance(dtype, pl.List):
        return {"type": "array", "items": ["null", _type_of(instance_of(dtype.inner), where, False)]}
    if isinstance(dtype, pl.Struct):
        inner = [(f.name, _type_of(instance_of(f.dtype), f"{where}.{f.name}", False)) for f in dtype.fields]
        fields = [{"name": name, "type": ["null", type_], "default": None} for name, type_ in inner]
        return {"type": "record", "name": where.replace(".", "_") + "_", "fields": fields}
    return _leaf_of(dtype, where, whole)


def _leaf_of(dtype: pl.DataType, where: str, whole: bool) -> Json:
    if isinstance(dtype, pl.Decimal) and whole:
        return {"type": "bytes", "logicalType": "decimal", "precision": dtype.precision, "scale": dtype.scale}
    if dtype == pl.UInt64 and whole:
        return {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0}
    if isinstance(dtype, pl.Datetime) and dtype.time_unit in _UNITS:
        local = "" if dtype.time_zone else "local-"
        return {"type": "long", "logicalType": f"{local}timestamp-{_UNITS[dtype.time_unit]}"}
    if dtype == pl.Time and whole:
        return {"type": "long", "logicalType": "time-micros"}
    found = _LEAVES.get(type(dtype))
    if found is None:
        raise BadConfig(
            f"column {where!r} has a type that Avro does not have", got=str(dtype), fix="cast_type() it"
        )
    return found


_UNITS = {"ms": "millis", "us": "micros"}
_LEAVES: Mapping[type[pl.DataType], Json] = {
    pl.Boolean: "boolean",
    pl.Int8: "int",
    pl.Int16: "int",
    pl.Int32: "int",
    pl.UInt8: "int",
    pl.UInt16: "int",
    pl.Int64: "long",
    pl.UInt32: "long",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.String: "string",
    pl.Categorical: "string",
    pl.Enum: "string",
    pl.Binary: "bytes",
    pl.Date: {"type": "int", "logicalType": "date"},
}
