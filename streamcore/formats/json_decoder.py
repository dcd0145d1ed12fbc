"""JSON to columns at column speed, with the strictness of orjson and pydantic row by row.

The definition of what a document means is the row path: :func:`read_document`, then
:meth:`StreamSchema.parse`. The fast path joins the documents by newlines and lets polars read them with
the schema, and is trusted only where it provably says the same:

* polars refuses wrong types, numbers beyond 64 bits, broken UTF-8, two values in a line, NaN, depth over
  1,024. When it refuses, orjson sifts out what it stumbled over and the rest is read again; a rest that
  is refused again is cut once into sixteenths, and a refused piece goes the row path.
* It skips blank lines and splits at raw newlines: newlines inside a document become carriage returns
  (white space outside of strings, refused inside, like a newline), and the rows are counted.
* Where a string is asked for it spells numbers, booleans, lists and objects out without a word: texts
  that look so are in doubt. It reads lone surrogates as NUL: documents with ``\\ud`` are in doubt.
* Dates, decimals and bytes are text in their canonical spelling (:mod:`streamcore.schema.text`), or in doubt.
* The schema's compiled checks (nulls, bounds, patterns) put their rows in doubt.

A few documents go another way, on which nothing is left to prove (:mod:`streamcore.formats.json_values`).
Rows in doubt go the row path, all others pass. So the work is linear in the bytes whatever they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
from polars._typing import PolarsDataType

from streamcore.batch import Chunk, Int64s
from streamcore.contracts import Decoded
from streamcore.contracts.documents import DocumentColumns
from streamcore.errors import BadConfig
from streamcore.formats.json_documents import elements_of, lines_of, read_document
from streamcore.formats.json_values import read_values, reads_values
from streamcore.formats.rows import Places, RowVerdicts, Subs, assemble, with_messages
from streamcore.schema import TYPE_NAMES, Refusal, StreamSchema
from streamcore.schema.stream import rows_where
from streamcore.schema.text import COERCED, coerced, from_text, is_text, narrow
from streamcore.schema.types import instance_of

Bools = npt.NDArray[np.bool_]

_FEW = 16
"""Below this many documents the row path is cheaper than a call of polars."""
_SCANNED = 256
"""Up to this many documents, if their types allow it, are read by :mod:`streamcore.formats.json_values`."""
_PIECES = 16
_LEAVES = pl.Int64 | pl.Float64 | pl.String | pl.Boolean
_NESTED = pl.List | pl.Struct
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1
_PYTHON: Mapping[type[pl.DataType], frozenset[type]] = {
    pl.Int64: frozenset({int}),
    pl.UInt64: frozenset({int}),
    pl.Float64: frozenset({int, float}),
    pl.Boolean: frozenset({bool}),
    pl.List: frozenset({list}),
    pl.Struct: frozenset({dict}),
}
"""What orjson makes of the values that polars takes for a type."""


class _Column(NamedTuple):
    name: str
    dtype: pl.DataType
    inputs: tuple[str, ...]
    reads: pl.DataType


class _Block(NamedTuple):
    """Documents as polars reads them; *surrogates*: which of them escape a surrogate, None for none."""

    frame: pl.DataFrame
    surrogates: list[bool] | None


class _Documents(NamedTuple):
    """Documents cut out of a chunk's messages; *subs* is None where each message is one document."""

    texts: list[bytes]
    offsets: Int64s
    subs: Subs | None
    refused: list[tuple[int, Refusal]]
    """Messages that could not be cut: their offset and why."""


class JsonDecoder:
    """See the module. *lines* and *array* say how a message holds several documents."""

    def __init__(self, schema: StreamSchema, *, lines: bool, array: bool) -> None:
        judge = schema.judge
        self._schema, self._lines, self._array = schema, lines, array
        self._nothing = pl.DataFrame(schema=schema.columns)
        self._columns = [_Column(n, t, judge.names[n], _reads(t, n)) for n, t in schema.columns.items()]
        self._inputs = pl.Schema({key: c.reads for c in self._columns for key in c.inputs})
        # Two columns from one input, or dates within lists and models: rare enough for the row path.
        shared = len(self._inputs) < sum(len(c.inputs) for c in self._columns)
        self._by_rows = judge.needs_python or shared or not all(_fast(t) for t in schema.columns.values())
        self._judge = judge
        self._as_read = all(c.inputs == (c.name,) and c.reads == c.dtype for c in self._columns)
        self._by_columns = not (
            self._by_rows or lines or array or any(len(c.inputs) > 1 for c in self._columns)
        )
        self._by_values = not self._by_rows and reads_values(self._inputs)
        self._expected = [(name, _PYTHON[type(t)]) for name, t in self._inputs.items() if t != pl.String]
        texts = [c for c in self._columns if isinstance(c.dtype, pl.String)]
        self._strings = [c.inputs for c in texts]
        self._string_doubts = _coerced(texts)
        self._nested_doubts = _coerced([c for c in self._columns if not isinstance(c.dtype, pl.String)])

    def decode(self, chunk: Chunk) -> Decoded:
        """See :class:`streamcore.contracts.Decoder`."""
        if self._by_columns and isinstance(chunk, DocumentColumns):
            decoded = self._of_columns(chunk, chunk.offsets())
            if decoded is not None:
                return decoded
        documents = self._cut(chunk.values(), chunk.offsets())
        proved, places, doubted = self._read(documents.texts)
        verdicts = RowVerdicts()
        for place in doubted:
            self._decide(documents.texts[place], place, verdicts)
        decoded = assemble(self._schema, documents.offsets, documents.subs, proved, places, verdicts)
        if not documents.refused:
            return decoded
        return Decoded(decoded.frame, with_messages(decoded.rejects, documents.refused))

    def _of_columns(self, chunk: DocumentColumns, offsets: Int64s) -> Decoded | None:
        """The records of *chunk* by its columns, those in doubt by their texts; None: it lacks some."""
        columns, doubt = list[pl.Series](), np.zeros(len(offsets), bool)
        for column in self._columns:
            asked = column.dtype if is_text(column.dtype) else column.reads
            found = chunk.column(column.inputs[0], asked)
            if found is None:
                return None
            values = found[0].cast(column.dtype, strict=False).alias(column.name)
            doubt |= found[1]
            if values.null_count() > found[0].null_count():
                doubt |= (values.is_null() & found[0].is_not_null()).to_numpy()
            columns.append(values)
        frame = pl.DataFrame(columns)
        doubt |= self._judge.in_doubt(frame)
        if not doubt.any():
            return assemble(self._schema, offsets, None, frame, None, RowVerdicts())
        doubted, verdicts = np.flatnonzero(doubt), RowVerdicts()
        texts = chunk.texts(doubted.tolist())
        proved, places, undecided = self._read(texts)
        for place in undecided:
            self._decide(texts[place], int(doubted[place]), verdicts)
        kept = np.concatenate([np.flatnonzero(~doubt), doubted if places is None else doubted[places]])
        order = np.argsort(kept, kind="stable")
        frame = pl.concat([_without(frame, doubt), proved])[order]
        return assemble(self._schema, offsets, None, frame, kept[order], verdicts)

    def _decide(self, text: bytes, place: int, verdicts: RowVerdicts) -> None:
        document = read_document(text)
        if isinstance(document, Refusal):
            verdicts.add(place, document, "decode")
        else:
            verdicts.add(place, self._schema.parse(document.value, document.text))

    # ------------------------------------------------------------ messages to documents

    def _cut(self, values: list[bytes | None], offsets: Int64s) -> _Documents:
        if not self._lines and not self._array and None not in values:
            return _Documents(cast("list[bytes]", values), offsets, None, [])
        texts: list[bytes] = []
        at: list[int] = []
        subs: list[int] = []
        refused: list[tuple[int, Refusal]] = []
        for offset, value in zip(offsets.tolist(), values, strict=True):
            cut = self._cut_message(value)
            if isinstance(cut, Refusal):
                refused.append((offset, cut))
                continue
            for sub, text in cut:
                texts.append(text)
                at.append(offset)
                subs.append(sub)
        several = self._lines or self._array
        return _Documents(
            texts, np.array(at, np.int64), np.array(subs, np.uint32) if several else None, refused
        )

    def _cut_message(self, value: bytes | None) -> Iterable[tuple[int, bytes]] | Refusal:
        if value is None:
            return Refusal("tombstone", "the message has no value")
        if self._array:
            elements = elements_of(value)
            return elements if isinstance(elements, Refusal) else enumerate(elements)
        if self._lines:
            return list(lines_of(value)) or Refusal("empty", "the message is empty")
        return ((0, value),)

    # ------------------------------------------------------------ documents to columns

    def _read(self, texts: list[bytes]) -> tuple[pl.DataFrame, Places | None, list[int]]:
        """Rows proved right, their places (None: all), and the places in doubt."""
        count = len(texts)
        if count <= _SCANNED and self._by_values:
            proved, doubt = self._prove(*read_values(texts, self._inputs))
            return _told_apart(proved, doubt)
        if self._by_rows or count < _FEW:
            return self._nothing, np.empty(0, np.intp), list(range(count))
        whole = self._read_block(texts)
        blocks = [(np.arange(count), whole)] if whole is not None else self._sift(texts)
        frames: list[pl.DataFrame] = []
        doubt = np.ones(count, bool)
        for places, block in blocks:
            if block is not None:
                frame, doubt[places] = self._prove_scanned(block, [texts[i] for i in places.tolist()])
                frames.append(frame)
        return _told_apart(pl.concat(frames) if frames else self._nothing, doubt)

    def _sift(self, texts: list[bytes]) -> list[tuple[Places, _Block | None]]:
        """Blocks of a batch that polars refuses: what orjson finds readable, whole or else in pieces."""
        kept = np.flatnonzero([self._readable(text) for text in texts])
        if len(kept) < _FEW:
            return []
        whole = self._read_block([texts[i] for i in kept.tolist()])
        if whole is not None:
            return [(kept, whole)]
        pieces = np.array_split(kept, min(_PIECES, len(kept) // _FEW))
        return [(p, self._read_block([texts[i] for i in p.tolist()])) for p in pieces]

    def _readable(self, text: bytes) -> bool:
        """Whether polars will probably take a document; a wrong guess costs time only."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return isinstance(value, dict) and all(
            (type(got) in types and (type(got) is not int or _LOW <= got <= _HIGH))
            for name, types in self._expected
            if (got := value.get(name)) is not None
        )

    def _read_block(self, texts: list[bytes]) -> _Block | None:
        """The inputs' columns, one row a text, or None where polars refuses or miscounts."""
        joined = b"\n".join(texts)
        if joined.count(b"\n") != len(texts) - 1:
            joined = b"\n".join([t.replace(b"\n", b"\r") for t in texts])
        surrogates = [b"\\ud" in t or b"\\uD" in t for t in texts] if _has_surrogates(joined) else None
        try:
            # One chunk a column: polars leaves one a thread and piece, which every later step would pay for.
            frame = pl.read_ndjson(joined, schema=self._inputs).rechunk()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        return _Block(frame, surrogates) if frame.height == len(texts) else None

    def _prove_scanned(self, block: _Block, texts: list[bytes]) -> tuple[pl.DataFrame, Bools]:
        """As :meth:`_prove` for what polars has read, where texts may have been something else."""
        doubt = np.zeros(len(texts), bool) if block.surrogates is None else np.array(block.surrogates)
        frame = self._columns_of(block.frame, doubt)
        doubt |= self._judge.in_doubt(frame)
        doubt |= rows_where(frame, self._nested_doubts)
        unsure = rows_where(frame, self._string_doubts) & ~doubt
        for place in np.flatnonzero(unsure).tolist():
            doubt[place] = not self._are_strings(texts[place])
        return _without(frame, doubt), doubt

    def _prove(self, block: pl.DataFrame, doubt: Bools) -> tuple[pl.DataFrame, Bools]:
        """The rows of *block* that are beyond doubt, in the schema's columns, and which ones are not."""
        frame = self._columns_of(block, doubt)
        doubt |= self._judge.in_doubt(frame)
        return _without(frame, doubt), doubt

    def _columns_of(self, block: pl.DataFrame, doubt: Bools) -> pl.DataFrame:
        """The schema's columns of *block*; adds to *doubt* where they may differ from what it says."""
        if self._as_read:
            return block
        columns: list[pl.Series] = []
        for column in self._columns:
            values, lost = _column_of(block, column)
            columns.append(values)
            if lost is not None:
                doubt |= lost.to_numpy()
        return pl.DataFrame(columns)

    def _are_strings(self, text: bytes) -> bool:
        """Whether the string columns of a document that polars could read hold strings (or nothing)."""
        document = read_document(text)
        if isinstance(document, Refusal) or not isinstance(document.value, dict):
            return False
        return all(
            value is None or isinstance(value, str)
            for inputs in self._strings
            for value in [next((document.value[i] for i in inputs if i in document.value), None)]
        )


def _column_of(block: pl.DataFrame, column: _Column) -> tuple[pl.Series, pl.Series | None]:
    """The column's values, and where they may differ from what the inputs said (None: nowhere)."""
    first, *others = (block[i] for i in column.inputs)
    lost: pl.Series | None = None
    for other in others:
        # pydantic goes by presence, even of a null, which a column does not show.
        if other.null_count() < len(other):
            here = first.is_null() & other.is_not_null()
            lost = here if lost is None else lost | here
    values = first
    if is_text(column.dtype):
        values = from_text(first, column.dtype)
        doubt = _text_doubt(first, column.dtype)
        if doubt is not None:
            lost = doubt if lost is None else lost | doubt
    elif narrow(column.dtype):
        values = first.cast(column.dtype, strict=False)
    if values.null_count() > first.null_count():
        here = values.is_null() & first.is_not_null()
        lost = here if lost is None else lost | here
    return values.alias(column.name), lost


def _text_doubt(text: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Where *text* may have been a number that looks like a text of *dtype*."""
    if isinstance(dtype, pl.Binary):
        return text.str.contains(COERCED).fill_null(False)
    if isinstance(dtype, pl.Decimal):  # a number has passed through a double, which keeps 15 digits
        return (text.str.len_bytes() > 15).fill_null(False)
    return None


def _told_apart(proved: pl.DataFrame, doubt: Bools) -> tuple[pl.DataFrame, Places | None, list[int]]:
    """*proved* rows, their places (None: all), and the places in *doubt*."""
    doubted = np.flatnonzero(doubt)
    return proved, np.flatnonzero(~doubt) if len(doubted) else None, doubted.tolist()


def _without(frame: pl.DataFrame, doubt: Bools) -> pl.DataFrame:
    return frame.filter(pl.Series(~doubt)) if doubt.any() else frame


def _has_surrogates(joined: bytes) -> bool:
    return b"\\" in joined and (b"\\ud" in joined or b"\\uD" in joined)


def _coerced(columns: list[_Column]) -> list[pl.Expr]:
    return [d for c in columns if (d := coerced(pl.col(c.name), c.dtype)) is not None]


def _reads(dtype: pl.DataType, name: str) -> pl.DataType:
    """What polars' reader is asked for, for a column of *dtype*."""
    if is_text(dtype):
        return pl.String()
    if isinstance(dtype, pl.Float32):
        return pl.Float64()
    if narrow(dtype):
        return pl.Int64()
    if isinstance(dtype, _NESTED | _LEAVES | pl.UInt64):
        return dtype
    raise BadConfig(
        f"JSON can't hold column {name!r}", got=str(dtype), allowed=TYPE_NAMES, fix="cast it before"
    )


def _fast(dtype: pl.DataType) -> bool:
    """Whether polars reads *dtype* itself, or reads it whole as a text or a wider number."""
    if isinstance(dtype, pl.List):
        return _leaf(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(_leaf(f.dtype) for f in dtype.fields)
    return True


def _leaf(dtype: PolarsDataType) -> bool:
    dtype = instance_of(dtype)
    return isinstance(dtype, _LEAVES) or (isinstance(dtype, _NESTED) and _fast(dtype))
