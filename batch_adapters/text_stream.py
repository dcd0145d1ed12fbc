"""A text file as a stream of UTF-8 bytes: decompressed, transcoded, with positions to resume at.

A position counts bytes of that stream. In a plain UTF-8 file it is the byte's place in the file, and
resuming is a seek; in a compressed or transcoded one what lies before is read again and dropped.

Text that is invalid in its encoding comes out as invalid UTF-8 (each bad byte *b* as the surrogate
U+DC00 + *b*), so that readers have to check for one thing only and can refuse just that record.
"""

from __future__ import annotations

import codecs
from pathlib import PurePosixPath
from typing import Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from batch_adapters.files import InputFile, reading
from streamcore.errors import Permanent, did_you_mean

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SUFFIXES = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
COMPRESSION_SUFFIXES = tuple(_SUFFIXES)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 1 << 20
_RATIO_FLOOR = 64 << 20  # small files may be as repetitive as they like
_KNOWN_ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-32",
    "latin-1",
    "cp1252",
    "ascii",
    "gb18030",
    "shift_jis",
)


def _mark_bad_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + b) for b in error.object[error.start : error.end]), error.end


codecs.register_error("streamcore.mark", _mark_bad_bytes)


class TextOptions(BaseModel):
    """Options of every text format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: str = Field(
        "auto", description="Text encoding; 'auto': by the byte order mark, UTF-8 where there is none."
    )
    max_record_bytes: int = Field(
        16 << 20, gt=0, description="Longest record; a longer one is refused with its size."
    )
    max_ratio: float = Field(
        250.0, gt=1, description="Decompressed / compressed size at which a compressed file counts as a bomb."
    )
    max_decompressed_bytes: int = Field(1 << 40, gt=0, description="Largest decompressed size of a file.")

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        if name == "auto":
            return name
        try:
            b"".decode(name)
            codecs.getincrementaldecoder(name)
            return codecs.lookup(name).name
        except (LookupError, TypeError):
            hint = did_you_mean(name, _KNOWN_ENCODINGS)
            raise ValueError(f"unknown encoding {name!r}" + (f", {hint}" if hint else "")) from None


class TextStream(Protocol):
    """UTF-8 bytes from ``position`` on, which moves with every read."""

    position: int

    def read(self, size: int) -> bytes:
        """About *size* bytes (at least one), or b"" at the end."""
        ...

    def close(self) -> None: ...


def compression(file: InputFile) -> str | None:
    """ "gzip", "zstd" or None, by the file's first bytes. Permanent when its suffix says otherwise."""
    with reading(file), file.open(end=4) as handle:
        head: bytes = handle.read(4)
    found = next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)
    named = _SUFFIXES.get(PurePosixPath(file.name).suffix.lower())
    if named and found != named and head:
        raise Permanent(
            f"the file is named as {named} but is not", where=file.name, fix="rename it or make it again"
        )
    return found


class PlainFile:
    """Bytes ``[start + position, end)`` of a file; positions count from *start*."""

    def __init__(self, file: InputFile, start: int, end: int, position: int) -> None:
        self._file, self.position, self._left = file, position, max(0, end - start - position)
        with reading(file):
            self._handle = file.open(start + position, end)

    def read(self, size: int) -> bytes:
        if not self._left:
            return b""
        with reading(self._file):
            data: bytes = self._handle.read(min(size, self._left))
        if not data:
            self._file.check_unchanged()
            raise Permanent("the file ends before its size", where=self._file.name)
        self._left -= len(data)
        self.position += len(data)
        return data

    def close(self) -> None:
        self._handle.close()


class Decompressed:
    """A compressed file's content from its start; memory does not grow with what it expands to."""

    def __init__(self, file: InputFile, codec: str, options: TextOptions) -> None:
        self._file, self._options, self.position = file, options, 0
        with reading(file):
            self._raw = file.open()
            self._stream = pa.CompressedInputStream(self._raw, codec)

    def read(self, size: int) -> bytes:
        with reading(self._file, "the compressed data is broken or cut off"):
            data: bytes = self._stream.read(min(size, _BLOCK))
        self.position += len(data)
        self._check_size()
        return data

    def _check_size(self) -> None:
        limit, ratio = self._options.max_decompressed_bytes, self._options.max_ratio
        where = self._file.name
        if self.position > limit:
            raise Permanent(
                f"decompressed to more than {limit} bytes", where=where, fix="raise max_decompressed_bytes"
            )
        if self.position > _RATIO_FLOOR and self.position > ratio * self._raw.tell():
            raise Permanent(
                f"decompresses to more than {ratio:g} times its size: a decompression bomb?",
                where=where,
                fix="raise max_ratio if the file is to be trusted",
            )

    def close(self) -> None:
        self._stream.close()
        self._raw.close()


class Transcoded:
    """Another stream's text as UTF-8, from its start."""

    def __init__(self, stream: TextStream, encoding: str) -> None:
        self._stream, self.position, self._done = stream, 0, False
        self._decoder = codecs.getincrementaldecoder(encoding)("streamcore.mark")

    def read(self, size: int) -> bytes:
        while not self._done:
            raw = self._stream.read(min(size, _BLOCK))
            self._done = not raw
            data = self._decoder.decode(raw, final=self._done).encode("utf-8", "surrogatepass")
            if data:
                self.position += len(data)
                return data
        return b""

    def close(self) -> None:
        self._stream.close()


class _Prepended:
    """A stream whose first bytes have been looked at."""

    def __init__(self, head: bytes, stream: TextStream) -> None:
        self._head, self._stream, self.position = head, stream, stream.position - len(head)

    def read(self, size: int) -> bytes:
        data, self._head = (self._head, b"") if self._head else (self._stream.read(size), b"")
        self.position += len(data)
        return data

    def close(self) -> None:
        self._stream.close()


def seekable(file: InputFile, options: TextOptions) -> bool:
    """Whether positions are places in the file: not compressed, and UTF-8."""
    return compression(file) is None and _encoding(file, options, None)[0] == "utf-8"


def open_text(
    file: InputFile, options: TextOptions, *, start: int = 0, end: int | None = None, position: int = 0
) -> TextStream:
    """The stream of *file* at *position*; *start* and *end* bound a part of a :func:`seekable` file.

    A byte order mark is passed over: at position 0 the stream may begin at position 3.
    """
    file.check_unchanged()
    codec = compression(file)
    encoding, mark = _encoding(file, options, codec)
    if codec is None and encoding == "utf-8":
        skipped = len(mark) if start == 0 and position < len(mark) else 0
        return PlainFile(file, start, file.size if end is None else end, max(position, skipped))
    stream: TextStream = Decompressed(file, codec, options) if codec else PlainFile(file, 0, file.size, 0)
    try:
        if encoding != "utf-8":
            stream = Transcoded(stream, encoding)
            mark = b""
        return _skip(stream, max(position, len(mark)))
    except BaseException:
        stream.close()
        raise


def _encoding(file: InputFile, options: TextOptions, codec: str | None) -> tuple[str, bytes]:
    """The encoding to read *file* with ("utf-8": as it is) and the UTF-8 mark to pass over."""
    wanted = "utf-8" if options.encoding == "utf-8-sig" else options.encoding
    if wanted not in ("auto", "utf-8"):
        return wanted, b""
    head = b""
    stream: TextStream = Decompressed(file, codec, options) if codec else PlainFile(file, 0, file.size, 0)
    try:
        while len(head) < 4 and (data := stream.read(4)):
            head += data
    finally:
        stream.close()
    mark, found = next(((m, e) for m, e in _MARKS if head.startswith(m)), (b"", "utf-8"))
    if found == "utf-8":
        return "utf-8", mark
    return (found, b"") if wanted == "auto" else ("utf-8", b"")


def _skip(stream: TextStream, position: int) -> TextStream:
    """*stream* moved on to *position* by reading."""
    while stream.position < position:
        before = stream.position
        data = stream.read(_BLOCK)
        if not data:
            break
        if stream.position > position:
            return _Prepended(data[position - before :], stream)
    return stream
