"""Masks: what stands in a column instead of what tells who somebody is. The step is ``Stream.mask``.

A null stays null. What a row was before stays in its topic, and in its dead letter if a step refuses it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Protocol

import polars as pl

from streamcore.contracts import StepResult
from streamcore.errors import BadConfig, did_you_mean
from streamcore.expressions import check_columns
from streamcore.secrets import Secret, references

__all__ = ["Hash", "Mask", "Partial", "Redact"]
SHORTEST_KEY = 16
_HIDDEN = "***"


class Mask(Protocol):
    """What becomes of a column of values: a pure function of each of them, whose result is text."""

    def check(self, column: str, dtype: pl.DataType) -> None:
        """BadConfig when it can't mask *column* of type *dtype*."""
        ...

    def of(self, values: pl.Series) -> pl.Series:
        """*values* masked, as strings."""
        ...


@dataclass(frozen=True)
class Redact:
    """*text* instead of any value."""

    text: str = _HIDDEN

    def __post_init__(self) -> None:
        _check_text("text", self.text)

    def check(self, column: str, dtype: pl.DataType) -> None:
        """See :class:`Mask`."""

    def of(self, values: pl.Series) -> pl.Series:
        """See :class:`Mask`."""
        return values.to_frame().select(pl.when(pl.first().is_not_null()).then(pl.lit(self.text))).to_series()


@dataclass(frozen=True)
class Partial:
    """The *first* and *last* characters of a text, and *fill* between them, however long it is.

    Of a text that has no more characters than those nothing is left but *fill*.
    """

    first: int = 0
    last: int = 4
    fill: str = _HIDDEN

    def __post_init__(self) -> None:
        for name, count in (("first", self.first), ("last", self.last)):
            if not isinstance(count, int) or count < 0:
                raise BadConfig(f"{name} of a mask is a number of characters", got=count)
        _check_text("fill", self.fill)

    def check(self, column: str, dtype: pl.DataType) -> None:
        """See :class:`Mask`."""
        _check_type(column, dtype, dtype == pl.String, "partial", "string")

    def of(self, values: pl.Series) -> pl.Series:
        """See :class:`Mask`."""
        text = pl.first()
        shown = pl.concat_str(text.str.head(self.first), pl.lit(self.fill), text.str.tail(self.last))
        long = text.str.len_chars() > self.first + self.last
        masked = pl.when(long).then(shown).otherwise(pl.when(text.is_not_null()).then(pl.lit(self.fill)))
        return values.to_frame().select(masked).to_series()


@dataclass(frozen=True)
class Hash:
    """The HMAC-SHA256 (RFC 2104) of the value's UTF-8 text by *key*, in 64 hexadecimal digits.

    The same value gives the same text wherever the key is the same, so it can be counted and joined; who has
    not the key can't find it by trying all values. *key* may be ``${env:NAME}`` or ``${file:PATH}``, and has
    16 characters or more.
    """

    key: str = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_text("key", self.key)

    def check(self, column: str, dtype: pl.DataType) -> None:
        """See :class:`Mask`."""
        _check_type(column, dtype, dtype == pl.String or dtype.is_integer(), "hash", "string, int64 …")
        if not references(self.key):
            self._revealed()

    def of(self, values: pl.Series) -> pl.Series:
        """See :class:`Mask`. Nothing makes an HMAC of a column: it is made once for each different value."""
        digest = partial(hmac.digest, self._revealed(), digest="sha256")
        different = values.drop_nulls().unique()
        if different.is_empty():
            return pl.Series([None] * len(values), dtype=pl.String)
        found = [digest(text.encode()).hex() for text in different.cast(pl.String).to_list()]
        masked: pl.Series = values.replace_strict(different, found, return_dtype=pl.String)
        return masked

    def _revealed(self) -> bytes:
        """BadConfig when a reference can't be resolved, or the key is too short."""
        key = Secret(self.key).reveal()
        if len(key) < SHORTEST_KEY:
            raise BadConfig(f"the key of a hash has less than {SHORTEST_KEY} characters")
        return key.encode()


def _check_text(name: str, given: object) -> None:
    """The value is not shown: it may be a key."""
    if not isinstance(given, str):
        raise BadConfig(f"{name} of a mask is a text", got=type(given).__name__, allowed=["text"])


def _check_type(column: str, dtype: pl.DataType, right: bool, how: str, allowed: str) -> None:
    if not right:
        fix = f"cast_type({{{column!r}: 'string'}}) before it"
        raise BadConfig(f"{how} can't mask column {column!r}", got=str(dtype), allowed=[allowed], fix=fix)


@dataclass(frozen=True)
class MaskColumns:
    """The step: each column of *masks* becomes what its mask makes of it."""

    masks: Mapping[str, Mask]

    @property
    def name(self) -> str:
        return "mask " + ", ".join(
            f"{column} ({type(mask).__name__.lower()})" for column, mask in self.masks.items()
        )

    def output(self, columns: pl.Schema) -> pl.Schema:
        """See :class:`streamcore.contracts.Step`."""
        check_columns(list(self.masks), columns, "in mask")
        if not self.masks:
            raise BadConfig("mask names no column", allowed=list(columns))
        for column, mask in self.masks.items():
            mask.check(column, columns[column])
        return pl.Schema({**columns, **dict.fromkeys(self.masks, pl.String())})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """See :class:`streamcore.contracts.Step`."""
        masked = [mask.of(frame[column]).alias(column) for column, mask in self.masks.items()]
        return StepResult(frame.with_columns(masked))


_KINDS: Mapping[str, type[Redact | Partial | Hash]] = {"redact": Redact, "partial": Partial, "hash": Hash}


def from_dict(given: Mapping[str, object]) -> Mask:
    """A mask from configuration, ``{"how": "partial", "last": 4}``: the other keys are its arguments."""
    how = str(given.get("how"))
    if how not in _KINDS:
        raise BadConfig(
            "unknown way to mask", got=given.get("how"), allowed=_KINDS, fix=did_you_mean(how, _KINDS)
        )
    arguments = {name: value for name, value in given.items() if name != "how"}
    allowed: Sequence[str] = [one.name for one in fields(_KINDS[how])]
    for name in arguments:
        if name not in allowed:
            raise BadConfig(
                f"unknown key of {how}", got=name, allowed=allowed, fix=did_you_mean(name, allowed)
            )
    if how == "hash" and "key" not in arguments:
        raise BadConfig("hash: key is missing", fix="write ${env:NAME} for it")
    return _KINDS[how](**arguments)  # type: ignore[arg-type]
