"""Where the values of many BSON documents lie: all documents at once, one field after the other. Pure.

A document is its length, then elements (a type, a name, a value), then a zero byte
(https://bsonspec.org/spec.html). Nothing says where the third element begins but the two before it, so each
document has a cursor, and a step takes all cursors that stand at a field of the same name over its value.
Documents of few shapes take few steps, whatever fields some of them lack.

What is found is beyond doubt. A document that has anything odd is left to who reads it by itself: a field
twice, a rare type, a number that is not finite, a text that is not UTF-8, a length that leads out of it. So
it is where few documents agree: a step costs as much for one as for two hundred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s: TypeAlias = "npt.NDArray[np.int64]"
Bytes: TypeAlias = "npt.NDArray[np.uint8]"
Bools: TypeAlias = "npt.NDArray[np.bool_]"

DOUBLE, TEXT, DOCUMENT, ARRAY, BINARY, UNDEFINED, OBJECT_ID = 1, 2, 3, 4, 5, 6, 7
BOOL, DATE, NULL, CODE, SYMBOL, INT, TIMESTAMP, LONG, DECIMAL = 8, 9, 10, 13, 14, 16, 17, 18, 19
ABSENT = 0
"""No type of BSON: the document has no such field."""
FEW = 200
"""Below so many documents a step costs more than to decode them one by one."""
_HEAD, _SMALLEST, _PADDING = 4, 5, bytes(16)
_HALF, _INLINE = np.uint64(32), 12
_FIRST = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
"""Masks of the first bytes of a word, by how many they are."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of many documents: by document the type of its value, and where that begins."""

    types: Bytes
    at: Int64s

    @classmethod
    def nowhere(cls, count: int) -> Field:
        """One that none of *count* documents has."""
        return cls(np.zeros(count, np.uint8), np.zeros(count, np.int64))

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.types.nbytes + self.at.nbytes

    def take(self, places: Int64s) -> Field:
        """That of the documents at *places*, which ascend."""
        return self if len(places) == len(self.at) else Field(self.types[places], self.at[places])


class BsonBytes:
    """BSON documents one behind the other in *data*: numbers and texts at any of its bytes."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.data = data + _PADDING  # who looks eight bytes ahead does not leave it
        self.bytes: Bytes = np.frombuffer(self.data, np.uint8)

    def numbers(self, kind: str, at: Int64s) -> npt.NDArray[Any]:
        """The numbers of numpy's type *kind* that begin at *at*."""
        size = np.dtype(kind).itemsize
        # A view with a number at each byte, which overlap.
        found: npt.NDArray[Any] = np.ndarray((len(self.data) - size + 1,), kind, self.data, strides=(1,))[at]
        return found

    def lengths(self, at: Int64s) -> Int64s:
        """The lengths that stand at *at*."""
        return self.numbers("<i4", at).astype(np.int64)

    def texts(self, at: Int64s, lengths: Int64s) -> pa.Array:
        """Pieces of the bytes, shape (len(at),), as Arrow's binary views: only short ones are copied."""
        views = np.empty((len(at), 2), np.uint64)
        first = self.numbers("<u8", at)
        views[:, 0] = lengths.astype(np.uint64) | first << _HALF
        views[:, 1] = at.astype(np.uint64) << _HALF
        short = np.flatnonzero(lengths <= _INLINE)
        at, lengths, first = at[short], lengths[short], first[short]
        views[short, 0] = lengths.astype(np.uint64) | (first & _FIRST[np.minimum(lengths, 4)]) << _HALF
        views[short, 1] = self.numbers("<u8", at + 4) & _FIRST[np.clip(lengths - 4, 0, 8)]
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.binary_view(), len(views), buffers)

    def name(self, at: int) -> bytes | None:
        """The name that begins at *at*, with its zero byte; None where it is no UTF-8."""
        name = self.data[at : self.data.index(0, at) + 1]
        try:
            name.decode()
        except UnicodeDecodeError:
            return None
        return name

    def stands(self, text: bytes, at: Int64s) -> Bools:
        """Where in *at* the bytes *text* stand."""
        found: Bools = at + len(text) <= self.size
        at = np.minimum(at, self.size - len(text))
        for start in range(0, len(text), 8):
            part = text[start : start + 8]
            found &= (self.numbers("<u8", at + start) & _FIRST[len(part)]) == int.from_bytes(part, "little")
        return found


def walk(source: BsonBytes, starts: Int64s, ends: Int64s, few: int) -> tuple[Mapping[str, Field], Bools]:
    """The fields of the documents from *starts* to *ends*, and which documents are beyond doubt.

    Of the others the fields say nothing. A step that fewer than *few* documents take is not made.
    """
    found, sure = dict[str, Field](), np.zeros(len(starts), np.bool_)
    places, at, last = np.arange(len(starts)), starts + _HEAD, ends - 1
    while len(places) >= max(few, 1):
        if at[0] == last[0]:  # and so are others: they are through
            through = at == last
            sure[places[through]] = source.bytes[last[through]] == 0
            stay = ~through
        elif (name := source.name(int(at[0]) + 1)) is None:
            break
        else:
            here = np.flatnonzero((at < last) & source.stands(name, at + 1))
            stay = np.ones(len(places), np.bool_)
            stay[here] = False
            if len(here) >= few:
                value = at[here] + 1 + len(name)
                types = source.bytes[at[here]]
                behind, good = _over(source, types, value, last[here], few)
                good &= _noted(found, name, places[here], types, value, len(starts))
                at[here] = behind
                stay[here] = good
        if not stay.all():
            places, at, last = places[stay], at[stay], last[stay]
    return found, sure


def _noted(
    found: dict[str, Field], name: bytes, places: Int64s, types: Bytes, value: Int64s, count: int
) -> Bools:
    """Put a field of the documents at *places* into *found*; False where it has been there before."""
    key = name[:-1].decode()
    if key not in found:
        if len(places) == count:
            found[key] = Field(types, value)
            return np.ones(count, np.bool_)
        found[key] = Field(np.zeros(count, np.uint8), np.zeros(count, np.int64))
    field = found[key]
    new: Bools = field.types[places] == ABSENT
    field.types[places], field.at[places] = types, value
    return new


def _over(source: BsonBytes, types: Bytes, at: Int64s, last: Int64s, few: int) -> tuple[Int64s, Bools]:
    """Behind the values of *types* that begin at *at*, none behind *last*; and which are beyond doubt."""
    kinds = np.flatnonzero(np.bincount(types, minlength=1)).tolist()
    if len(kinds) == 1:  # nearly always
        return _over_one(kinds[0], source, at, last, few)
    behind, good = last.copy(), np.zeros(len(at), np.bool_)
    for kind in kinds:
        of = np.flatnonzero(types == kind)
        behind[of], good[of] = _over_one(kind, source, at[of], last[of], few)
    return behind, good


def _over_one(kind: int, source: BsonBytes, at: Int64s, last: Int64s, few: int) -> tuple[Int64s, Bools]:
    if kind in _FIXED:
        behind = at + _FIXED[kind]
        good = behind <= last
        if kind == DOUBLE:
            good &= np.isfinite(source.numbers("<f8", at))
        elif kind == BOOL:
            good &= source.bytes[at] <= 1
        return behind, good
    if kind not in _BESIDE:
        return last, np.zeros(len(at), np.bool_)
    lengths = source.lengths(at)
    behind = at + lengths + _BESIDE[kind]
    good = (lengths >= _SHORTEST[kind]) & (behind <= last)
    if kind != BINARY:
        held = np.flatnonzero(good)
        check = _nested if kind in (DOCUMENT, ARRAY) else _utf8
        good[held] = check(source, at[held], behind[held], few)
    return behind, good


_FIXED = {
    DOUBLE: 8, UNDEFINED: 0, OBJECT_ID: 12, BOOL: 1, DATE: 8, NULL: 0, INT: 4, TIMESTAMP: 8, LONG: 8,
    DECIMAL: 16,
}  # fmt: skip
"""The bytes of a value, by its type."""
_BESIDE = {TEXT: 4, CODE: 4, SYMBOL: 4, BINARY: 5, DOCUMENT: 0, ARRAY: 0}
"""Types whose values begin with a length, and what that does not count."""
_SHORTEST = {TEXT: 1, CODE: 1, SYMBOL: 1, BINARY: 0, DOCUMENT: _SMALLEST, ARRAY: _SMALLEST}


def _nested(source: BsonBytes, at: Int64s, behind: Int64s, few: int) -> Bools:
    return walk(source, at, behind, few)[1]


def _utf8(source: BsonBytes, at: Int64s, behind: Int64s, few: int) -> Bools:
    """Which texts end with their zero byte and are UTF-8."""
    good: Bools = source.bytes[behind - 1] == 0
    texts = source.texts(at + _HEAD, behind - at - _HEAD - 1)
    try:
        texts.cast(pa.large_string())
    except pa.ArrowInvalid:
        good &= np.fromiter(map(_is_utf8, texts.to_pylist()), np.bool_, len(good))
    return good


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
