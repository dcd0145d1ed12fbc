"""A pydantic model compiled to column types and column checks.

The compiler walks the model's core schema (pydantic's own intermediate form, `pydantic_core.core_schema`),
so that every way to write a constraint arrives at the same node. Each column gets **doubts**: expressions
that are true where the column alone cannot prove that pydantic would accept the value.
Doubting too much only costs time, since pydantic then decides; doubting too little would let a bad row
pass. What no expression can tell (Python validators, transformations of strings, forbidden extra
fields, the clock) sets ``needs_python``: then pydantic is asked about every row.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import polars as pl
from pydantic import BaseModel

from streamcore.errors import BadConfig
from streamcore.schema.types import DATETIME, DECIMAL_SCALE

Node: TypeAlias = Mapping[str, Any]
Doubt: TypeAlias = Callable[[pl.Expr], pl.Expr]

ALLOWED = (
    "int",
    "float",
    "str",
    "bool",
    "datetime",
    "date",
    "time",
    "Decimal",
    "bytes",
    "Literal",
    "Enum",
    "list[…]",
    "a nested model",
    "Optional of these",
)
_INT64 = 1 << 63
_WRAPPERS = frozenset({"function-after", "function-before", "function-wrap"})
_STRING_OPTIONS = (
    "str_strip_whitespace",
    "str_to_lower",
    "str_to_upper",
    "str_min_length",
    "str_max_length",
)
_PYTHON_OPTIONS = {
    "regex_engine": "python-re",
    "extra_fields_behavior": "forbid",
    "allow_inf_nan": False,
}


@dataclass(frozen=True, slots=True)
class ModelColumn:
    """One field as a column.

    ``names``: input names, the first present one counts. ``null_ok``: a null (or a missing value)
    needs no question. ``fill``: Optional without a default, for which we read "missing" as null.
    ``members``: pydantic gives members of an Enum instead of their values.
    """

    attribute: str
    names: tuple[str, ...]
    dtype: pl.DataType
    null_ok: bool
    fill: bool
    doubts: tuple[Doubt, ...]
    members: bool


@dataclass(slots=True)
class _Kind:
    dtype: pl.DataType
    doubts: list[Doubt] = field(default_factory=list)
    nullable: bool = False
    default: bool = False
    members: bool = False
    none_default: bool = False


@dataclass(slots=True)
class ModelCompiler:
    """Walks one model; read ``columns`` and ``needs_python`` after :meth:`compile`.

    *takes_any*: the model was made for given columns, of which some types only frames can carry.
    """

    model: type[BaseModel]
    takes_any: bool = False
    needs_python: bool = False
    columns: list[ModelColumn] = field(default_factory=list)
    _definitions: dict[str, Node] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def compile(self) -> ModelCompiler:
        """BadConfig names the field whose type can't be a column."""
        self.model.model_rebuild()
        node: Any = self.model.__pydantic_core_schema__
        for name, spec in self._model_fields(node):
            kind = self._kind(spec["schema"], name)
            self.columns.append(
                ModelColumn(
                    name,
                    self._names(name, spec),
                    kind.dtype,
                    null_ok=kind.nullable and (not kind.default or kind.none_default),
                    fill=kind.nullable and not kind.default,
                    doubts=tuple(kind.doubts),
                    members=kind.members,
                )
            )
        return self

    def _names(self, name: str, spec: Node) -> tuple[str, ...]:
        alias = spec.get("validation_alias")
        config = self.model.model_config
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        own = (name,) if by_name or alias is None else ()
        if alias is None or isinstance(alias, str):
            return tuple(dict.fromkeys(([alias] if alias else []) + list(own)))
        paths = [p for p in alias if isinstance(p, list)] or [alias]
        if any(len(p) > 1 for p in paths):  # an AliasPath looks into a nested value
            self.needs_python = True
        return tuple(dict.fromkeys([p[0] for p in paths] + list(own)))

    def _model_fields(self, node: Node) -> list[tuple[str, Node]]:
        node = self._resolve(node)
        while node["type"] in _WRAPPERS:
            self.needs_python = True
            node = self._resolve(node["schema"])
        config = node.get("config") or {}
        if any(config.get(option) for option in _STRING_OPTIONS) or any(
            config.get(option) == value for option, value in _PYTHON_OPTIONS.items()
        ):
            self.needs_python = True
        if node.get("custom_init") or node.get("post_init"):
            self.needs_python = True
        inner = self._resolve(node["schema"])
        while inner["type"] in _WRAPPERS:
            self.needs_python = True
            inner = self._resolve(inner["schema"])
        if inner["type"] != "model-fields":
            raise BadConfig("a root model has no columns", got=self.model.__name__, fix="give it fields")
        if inner.get("extra_behavior") == "forbid":
            self.needs_python = True
        return list(inner["fields"].items())

    def _resolve(self, node: Node) -> Node:
        while node["type"] in ("definitions", "definition-ref"):
            if node["type"] == "definitions":
                self._definitions.update({d["ref"]: d for d in node["definitions"]})
                node = node["schema"]
            else:
                node = self._definitions[node["schema_ref"]]
        return node

    def _kind(self, node: Node, where: str) -> _Kind:
        node = self._resolve(node)
        name = node["type"]
        if name in _WRAPPERS:
            self.needs_python = True
            return self._kind(node["schema"], where)
        compile_one = getattr(self, "_" + name.replace("-", "_") + "_type", None)
        if compile_one is None:
            raise self._refuse(where, name)
        kind: _Kind = compile_one(node, where)
        return kind

    def _refuse(self, where: str, got: str) -> BadConfig:
        return BadConfig(
            f"field {where!r} of {self.model.__name__} has a type that is no column type",
            got=got,
            allowed=ALLOWED,
        )

    # One method a node type of pydantic_core.core_schema.

    def _default_type(self, node: Node, where: str) -> _Kind:
        kind = self._kind(node["schema"], where)
        if node.get("on_error", "raise") != "raise":
            self.needs_python = True
        none_default = "default" in node and node["default"] is None
        return replace(kind, default=True, none_default=none_default)

    def _nullable_type(self, node: Node, where: str) -> _Kind:
        kind = self._kind(node["schema"], where)
        return replace(kind, nullable=True)

    def _any_type(self, node: Node, where: str) -> _Kind:
        if not self.takes_any:
            raise self._refuse(where, "Any")
        return _Kind(pl.Object(), nullable=True)

    def _int_type(self, node: Node, where: str) -> _Kind:
        doubts = self._bounds(node, lambda v: -_INT64 <= v < _INT64)
        if (step := node.get("multiple_of")) is not None:
            doubts.append(lambda e: e % step != 0)
        return _Kind(pl.Int64(), doubts)

    def _float_type(self, node: Node, where: str) -> _Kind:
        doubts = self._bounds(node, lambda v: True)
        if node.get("allow_inf_nan") is False:
            doubts.append(lambda e: ~e.is_finite())
        elif doubts:  # polars sorts NaN above all numbers, pydantic compares it false
            doubts.append(lambda e: e.is_nan())
        if node.get("multiple_of") is not None:
            self.needs_python = True
        return _Kind(pl.Float64(), doubts)

    def _decimal_type(self, node: Node, where: str) -> _Kind:
        if node.get("multiple_of") is not None:
            self.needs_python = True
        places = node.get("decimal_places")
        digits = min(node.get("max_digits") or 38, 38)
        scale = DECIMAL_SCALE if places is None else places
        return _Kind(pl.Decimal(max(digits, scale), scale), self._bounds(node, lambda v: True))

    def _str_type(self, node: Node, where: str) -> _Kind:
        if any(
            node.get(o) for o in ("strip_whitespace", "to_lower", "to_upper", "regex_engine", "ascii_only")
        ):
            self.needs_python = True
        doubts = _lengths(node, lambda e: e.str.len_chars())
        pattern = node.get("pattern")
        if isinstance(pattern, str) and _polars_reads(pattern):
            doubts.append(lambda e: ~e.str.contains(pattern))
        elif pattern is not None:
            self.needs_python = True
        return _Kind(pl.String(), doubts)

    def _bytes_type(self, node: Node, where: str) -> _Kind:
        return _Kind(pl.Binary(), _lengths(node, lambda e: e.bin.size()))

    def _bool_type(self, node: Node, where: str) -> _Kind:
        return _Kind(pl.Boolean())

    def _date_type(self, node: Node, where: str) -> _Kind:
        if node.get("now_op"):
            self.needs_python = True
        return _Kind(pl.Date(), self._bounds(node, lambda v: True))

    def _time_type(self, node: Node, where: str) -> _Kind:
        if any(node.get(key) is not None for key in ("gt", "ge", "lt", "le", "tz_constraint")):
            self.needs_python = True
        return _Kind(pl.Time())

    def _datetime_type(self, node: Node, where: str) -> _Kind:
        zone = node.get("tz_constraint")
        if node.get("now_op") or zone == "aware" or isinstance(zone, int):
            self.needs_python = True  # a column in UTC does not show whether the text had an offset
        if any(node.get(key) is not None for key in ("gt", "ge", "lt", "le")):
            self.needs_python = True
        return _Kind(pl.Datetime("us") if zone == "naive" else DATETIME)

    def _literal_type(self, node: Node, where: str) -> _Kind:
        return self._members(list(node["expected"]), where, "Literal of mixed types")

    def _enum_type(self, node: Node, where: str) -> _Kind:
        if node.get("missing") is not None:
            self.needs_python = True
        return self._members([m.value for m in node["members"]], where, "Enum of mixed types")

    def _members(self, members: list[object], where: str, got: str) -> _Kind:
        members = [m.value if isinstance(m, enum.Enum) else m for m in members]
        kinds = {type(m) for m in members}
        if kinds == {str}:
            return _Kind(pl.String(), [lambda e: ~e.is_in(members)], members=True)
        if kinds == {int}:
            return _Kind(pl.Int64(), [lambda e: ~e.is_in(members)], members=True)
        if kinds == {bool}:
            return _Kind(pl.Boolean(), [lambda e: ~e.is_in(members)], members=True)
        raise self._refuse(where, got)

    def _list_type(self, node: Node, where: str) -> _Kind:
        inner = self._kind(node.get("items_schema") or {"type": "any"}, where + "[]")
        doubts = _lengths(node, lambda e: e.list.len())
        doubt = _with_nulls(inner)
        if doubt is not None:
            doubts.append(lambda e: e.list.eval(doubt(pl.element()).fill_null(False)).list.any())
        return _Kind(pl.List(inner.dtype), doubts)

    def _model_type(self, node: Node, where: str) -> _Kind:
        ref = str(node.get("ref") or where)
        if ref in self._open:
            raise self._refuse(where, "a model that contains itself")
        self._open.append(ref)
        fields = [
            (name, spec, self._kind(spec["schema"], f"{where}.{name}"))
            for name, spec in self._model_fields(node)
        ]
        self._open.pop()
        if any(spec.get("validation_alias") not in (None, name) for name, spec, _ in fields):
            self.needs_python = True  # a nested column is read under its own name only
        doubts: list[Doubt] = []
        for name, _, kind in fields:
            if (doubt := _with_nulls(kind)) is not None:
                doubts.append(partial(_in_field, name, doubt))
        return _Kind(pl.Struct({name: kind.dtype for name, _, kind in fields}), doubts)

    def _bounds(self, node: Node, fits: Callable[[Any], bool]) -> list[Doubt]:
        tests: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
            "gt": lambda e, v: e <= v,
            "ge": lambda e, v: e < v,
            "lt": lambda e, v: e >= v,
            "le": lambda e, v: e > v,
        }
        doubts: list[Doubt] = []
        for key, test in tests.items():
            bound = node.get(key)
            if bound is None:
                continue
            if not fits(bound) or isinstance(bound, dt.datetime):
                self.needs_python = True
                continue
            doubts.append(partial(_beyond, test, bound))
        return doubts


def _in_field(name: str, doubt: Doubt, e: pl.Expr) -> pl.Expr:
    return doubt(e.struct.field(name)) & e.is_not_null()


def _beyond(test: Callable[[pl.Expr, Any], pl.Expr], bound: Any, e: pl.Expr) -> pl.Expr:
    return test(e, bound)


def _lengths(node: Node, size: Callable[[pl.Expr], pl.Expr]) -> list[Doubt]:
    doubts: list[Doubt] = []
    if (least := node.get("min_length")) is not None:
        doubts.append(lambda e: size(e) < least)
    if (most := node.get("max_length")) is not None:
        doubts.append(lambda e: size(e) > most)
    return doubts


def _with_nulls(kind: _Kind) -> Doubt | None:
    """Inside lists and nested models a null is doubted too, unless None is the default or has none."""
    null_ok = kind.nullable and (not kind.default or kind.none_default)
    return _any_of(kind.doubts if null_ok else [lambda e: e.is_null(), *kind.doubts])


def _any_of(doubts: list[Doubt]) -> Doubt | None:
    if not doubts:
        return None
    return lambda e: pl.any_horizontal([d(e).fill_null(False) for d in doubts])


def _polars_reads(pattern: str) -> bool:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        return False
    return True
