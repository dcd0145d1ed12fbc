"""Where the records of a text begin and end: lines, or CSV records with quoted newlines.

The rules of quoting are those of Python's csv module: a quote opens only at the start of a field,
``""`` inside is a quote, elsewhere a quote is an ordinary character. Boundaries are found on whole
buffers (numpy): all newlines, and the parity of the quotes before each. Only a buffer in which some
quote stands at an odd place is gone through quote by quote.

A record that does not end within ``limit`` bytes (a quote that is never closed swallows the rest of
the file) is a *fault*: its first line is refused and cutting goes on with the next line. What is
cut thus depends on the text alone and not on how it is read: the cut law holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from batch_adapters.text_stream import TextStream
from streamcore.batch import Int64s

_LF, _CR = 10, 13
_BLOCK = 1 << 16
_NONE: Int64s = np.empty(0, np.int64)


class Quotes(NamedTuple):
    """Places of the quotes that open or close a field (``toggles``, in turn), of those inside unquoted
    fields (``literal``), and of closing ones that are followed by text (``stray``).
    """

    toggles: Int64s
    literal: Int64s
    stray: Int64s

    def before(self, place: int) -> Quotes:
        """Those before *place*."""
        return Quotes(*(places[: int(np.searchsorted(places, place))] for places in self))


_NO_QUOTES = Quotes(_NONE, _NONE, _NONE)


class Dialect(NamedTuple):
    """``delimiter`` and ``quote`` as byte values; None: the text has none, records are lines."""

    delimiter: int | None = None
    quote: int | None = None
    lone_cr: bool = False
    """Whether a CR without LF ends a record, as it does in CSV."""


class Fault(NamedTuple):
    """Why a whole piece is one refused record."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records in order: record *i* is ``data[starts[i]:ends[i]]``, its newline not included.

    ``base`` is the position of ``data[0]``, ``end`` the position after the piece.
    """

    data: bytes
    base: int
    end: int
    starts: Int64s
    ends: Int64s
    quotes: Quotes = _NO_QUOTES
    fault: Fault | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, position: int) -> bytes:
        """The bytes of the record that starts at *position*."""
        at = int(np.searchsorted(self.starts, position - self.base))
        return self.data[int(self.starts[at]) : int(self.ends[at])]


def _find(array: npt.NDArray[np.uint8], value: int) -> Int64s:
    return np.flatnonzero(array == value).astype(np.int64, copy=False)


def _newlines(buffer: bytes, array: npt.NDArray[np.uint8], dialect: Dialect, final: bool) -> Int64s:
    """Places of all line ends; a CR at the very end may be half of a CRLF unless *final*."""
    feeds = _find(array, _LF)
    if not dialect.lone_cr or b"\r" not in buffer:
        return feeds
    returns = _find(array, _CR)
    if not final and len(returns) and returns[-1] == len(array) - 1:
        returns = returns[:-1]
    followed = array[np.minimum(returns + 1, len(array) - 1)] == _LF
    lone = returns[~followed]
    return np.sort(np.concatenate([feeds, lone])) if len(lone) else feeds


def _classify_quotes(buffer: bytes, array: npt.NDArray[np.uint8], dialect: Dialect) -> Quotes:
    """The quotes of *buffer*, which begins at the start of a record."""
    if dialect.quote is None or dialect.quote not in buffer:
        return _NO_QUOTES
    quotes = _find(array, dialect.quote)
    edge = np.zeros(256, bool)
    edge[[dialect.delimiter or _LF, _LF, _CR]] = True
    before = (quotes == 0) | edge[array[np.maximum(quotes - 1, 0)]]
    after = (quotes == len(array) - 1) | edge[array[np.minimum(quotes + 1, len(array) - 1)]]
    doubled = np.zeros(len(quotes), bool)
    doubled[1:] = np.diff(quotes) == 1
    opening_right = (before | doubled)[0::2].all()
    closing_right = (after | np.append(doubled[1:], False))[1::2].all()
    if opening_right and closing_right:
        return Quotes(quotes, _NONE, _NONE)
    return _classify_one_by_one(quotes.tolist(), before.tolist(), after.tolist())


def _classify_one_by_one(places: list[int], before: list[bool], after: list[bool]) -> Quotes:
    """The same for quotes at odd places: a state machine over the quotes (not over the bytes)."""
    quotes: list[int] = []
    literal: list[int] = []
    stray: list[int] = []
    inside, i = False, 0
    while i < len(places):
        if inside:
            if i + 1 < len(places) and places[i + 1] == places[i] + 1:
                i += 2
                continue
            quotes.append(places[i])
            inside = False
            if not after[i]:
                stray.append(places[i])
        elif before[i]:
            quotes.append(places[i])
            inside = True
        else:
            literal.append(places[i])
        i += 1
    return Quotes(*(np.array(found, np.int64) for found in (quotes, literal, stray)))


def outside(places: Int64s, quotes: Int64s) -> Int64s:
    """Those of *places* that are not within quotes."""
    if not len(quotes):
        return places
    kept: Int64s = places[np.searchsorted(quotes, places) % 2 == 0]
    return kept


def cut_records(buffer: bytes, base: int, dialect: Dialect, *, final: bool) -> tuple[Piece, int]:
    """The whole records of *buffer*, which starts at a record, and the place where the rest begins.

    *final*: nothing follows, so the last record needs no newline.
    """
    array = np.frombuffer(buffer, np.uint8)
    quotes = _classify_quotes(buffer, array, dialect)
    newlines = outside(_newlines(buffer, array, dialect, final), quotes.toggles)
    cut = int(newlines[-1]) + 1 if len(newlines) else 0
    open_quote = len(quotes.toggles) % 2 == 1
    if final and cut < len(buffer) and not open_quote:
        newlines = np.append(newlines, len(buffer))
        cut = len(buffer)
    starts = np.concatenate([np.zeros(min(1, len(newlines)), np.int64), newlines[:-1] + 1])
    crlf = (newlines > starts) & (array[np.maximum(newlines - 1, 0)] == _CR) if cut else np.zeros(0, bool)
    ends = newlines - crlf
    return Piece(buffer[:cut], base, base + cut, starts, ends, quotes.before(cut)), cut


class RecordCutter:
    """Cuts a stream into pieces of whole records; blank lines are no records."""

    def __init__(self, stream: TextStream, dialect: Dialect, limit: int) -> None:
        self._stream, self._dialect, self._limit = stream, dialect, limit
        self._buffer = b""
        self._final = False
        self.position = stream.position
        """Where the next piece begins."""

    def pieces(self, size: int) -> Iterator[Piece]:
        """All pieces from here to the end."""
        while (piece := self.next(size)) is not None:
            yield piece

    def next(self, size: int) -> Piece | None:
        """A piece of about *size* bytes with at least one record or a fault, or None at the end."""
        wanted = max(1, size)
        while True:
            self._fill(wanted)
            if not self._buffer:
                return None
            window = self._buffer if len(self._buffer) <= wanted else self._buffer[:wanted]
            final = self._final and len(window) == len(self._buffer)
            piece, cut = cut_records(window, self.position, self._dialect, final=final)
            piece, cut, faulty = self._within_limit(piece, cut)
            if not cut and (faulty or final or len(window) > self._limit + 1):
                return self._fault()
            if cut:
                self._drop(cut)
                piece = _without_blanks(piece)
                if len(piece) or not self._more():
                    return piece if len(piece) else None
                continue
            wanted = 2 * len(window)

    def _more(self) -> bool:
        self._fill(1)
        return bool(self._buffer)

    def _fill(self, wanted: int) -> None:
        if len(self._buffer) >= wanted or self._final:
            return
        parts, have = [self._buffer], len(self._buffer)
        while have < wanted and not self._final:
            data = self._stream.read(max(_BLOCK, wanted - have))
            parts.append(data)
            have += len(data)
            self._final = not data
        self._buffer = b"".join(parts)

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self.position += count

    def _within_limit(self, piece: Piece, cut: int) -> tuple[Piece, int, bool]:
        """*piece* up to its first record above the limit, and whether that one is now the first."""
        long = np.flatnonzero(piece.ends - piece.starts > self._limit)
        if not len(long):
            return piece, cut, False
        at = int(long[0])
        cut = int(piece.starts[at])
        kept = Piece(
            piece.data[:cut],
            piece.base,
            piece.base + cut,
            piece.starts[:at],
            piece.ends[:at],
            piece.quotes.before(cut),
        )
        return kept, cut, at == 0

    def _fault(self) -> Piece:
        """The buffer begins with a record that does not end: refuse its first line."""
        base, head, length = self.position, bytearray(), 0
        newline = self._line_end()
        while newline < 0 and not self._final:
            # A CR at the end may belong to the LF that comes next: it stays in the buffer.
            whole = len(self._buffer) - self._buffer.endswith(b"\r")
            head += self._buffer[: min(whole, max(0, self._limit - length))]
            length += whole
            self._drop(whole)
            self._fill(_BLOCK)
            newline = self._line_end()
        line = self._buffer[: newline + 1] if newline >= 0 else self._buffer
        self._drop(len(line))
        text = line.rstrip(b"\r\n")
        length += len(text)
        data = bytes(head + text)[: self._limit]
        if length > self._limit:
            message = (
                f"record of {length} bytes, above max_record_bytes={self._limit}; "
                f"only its first {self._limit} bytes are kept here"
            )
            fault = Fault("too_large", message)
        else:
            message = f"a quote is not closed within {self._limit} bytes; here is the record's first line"
            fault = Fault("quote", message)
        place = np.zeros(1, np.int64)
        return Piece(data, base, self.position, place, place + len(data), fault=fault)

    def _line_end(self) -> int:
        """Place of the last byte of the first line end in the buffer, or -1."""
        feed = self._buffer.find(b"\n")
        if not self._dialect.lone_cr:
            return feed
        back = self._buffer.find(b"\r", 0, feed if feed >= 0 else len(self._buffer))
        if back < 0 or back + 1 == feed:
            return feed
        return back if back + 1 < len(self._buffer) or self._final else -1


def _without_blanks(piece: Piece) -> Piece:
    full = piece.ends > piece.starts
    if full.all():
        return piece
    return Piece(
        piece.data,
        piece.base,
        piece.end,
        piece.starts[full],
        piece.ends[full],
        piece.quotes,
    )
