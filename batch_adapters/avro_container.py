"""The container of Avro's object files: its header, its blocks and what packs them.

Source: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cramjam
import pyarrow as pa

from batch_adapters.files import InputFile
from streamcore.errors import BadConfig, Permanent
from streamcore.formats.avro_schema import WriterSchema

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
BROKEN = "the Avro file is broken, cut off or not supported"
_LOOK = 1 << 16
"""Bytes that are read at once in search of a marker."""
_LONGEST_HEADER = 64 << 20
_CHECKSUM_BYTES = 4


class Header(NamedTuple):
    """What stands before the blocks; ``end``: the byte at which these begin."""

    schema: WriterSchema
    codec: str
    sync: bytes
    end: int


def read_header(handle: pa.NativeFile, file: InputFile) -> Header:
    """The header of *file*, at whose start *handle* is. Permanent for what is none, or no rows'."""
    if handle.read(len(MAGIC)) != MAGIC:
        raise Permanent("not an Avro file", where=file.name, fix="give its format: ?format=…")
    meta: dict[bytes, bytes] = {}
    while count := number_at(handle, file):
        if count < 0:  # with its size in bytes, for those who skip it
            count, _ = -count, number_at(handle, file)
        for _ in range(count):
            name = _bytes(handle, file)
            meta[name] = _bytes(handle, file)
    codec = meta.get(b"avro.codec", b"null").decode("ascii", "replace")
    if codec not in CODECS:
        raise Permanent("an Avro file of an unknown codec", where=file.name, got=codec, allowed=CODECS)
    try:
        schema = WriterSchema.of(meta.get(b"avro.schema", b"").decode("utf-8", "replace"))
    except BadConfig as error:
        raise Permanent(error.what, where=file.name, got=error.got) from None
    return Header(schema, codec, handle.read(SYNC_BYTES), handle.tell())


def _bytes(handle: pa.NativeFile, file: InputFile) -> bytes:
    """A value of the header, with its length before it."""
    length = number_at(handle, file)
    if not 0 <= length <= _LONGEST_HEADER - handle.tell():
        raise Permanent(BROKEN, where=file.name, got=f"a header that names {length} bytes")
    return bytes(handle.read(length))


def density(handle: pa.NativeFile, header: Header, file: InputFile) -> float:
    """Rows a byte of the first block."""
    handle.seek(header.end)
    rows, packed = number_at(handle, file), number_at(handle, file)
    return rows / max(1, int(handle.tell()) - header.end + packed + SYNC_BYTES)


def next_block(handle: pa.NativeFile, place: int, sync: bytes, size: int) -> int:
    """Where the first block begins whose marker before it begins at or behind *place*; *size* without one."""
    handle.seek(place)
    tail = b""
    while piece := handle.read(_LOOK):
        found = (tail + piece).find(sync)
        if found >= 0:
            return int(min(place - len(tail) + found + SYNC_BYTES, size))
        place += len(piece)
        tail = (tail + piece)[1 - SYNC_BYTES :]
    return size


def number_at(handle: pa.NativeFile, file: InputFile) -> int:
    """The zigzag number at which *handle* is."""
    zigzag, shift = 0, 0
    while shift < 70 and (byte := handle.read(1)):
        zigzag |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            number: int = (zigzag >> 1) ^ -(zigzag & 1)
            return number
        shift += 7
    raise Permanent(BROKEN, where=file.name, got="no number where one should be")


def _deflate(packed: bytes, most: int) -> bytes:
    return zlib.decompressobj(-15).decompress(packed, most)


def _snappy(packed: bytes, most: int) -> bytes:
    plain, shift = 0, 0
    for byte in packed[:5]:
        plain |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if plain >= most:
        return bytes(most)  # too large: it says so before it is unpacked
    data = bytes(cramjam.snappy.decompress_raw(packed[:-_CHECKSUM_BYTES]))
    if zlib.crc32(data) != int.from_bytes(packed[-_CHECKSUM_BYTES:], "big"):
        raise ValueError("the checksum does not fit")
    return data


def _zstandard(packed: bytes, most: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read(most))


CODECS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "null": lambda packed, most: packed,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": lambda packed, most: bz2.BZ2Decompressor().decompress(packed, most),
    "xz": lambda packed, most: lzma.LZMADecompressor().decompress(packed, most),
}
"""What unpacks a block to at most so many bytes."""
