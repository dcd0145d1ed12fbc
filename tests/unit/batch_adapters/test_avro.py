"""Avro files: each codec, what can't be columns, what is broken anywhere, blocks that are too large."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cramjam
import fastavro
import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent
from streamcore.testing.sources import read_source

FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "name", "type": ["null", "string"]},
    {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
]
ROWS = [
    {"id": n, "name": None if n % 7 else f"n{n}", "kind": "AB"[n % 2], "tags": ["x"] * (n % 3)}
    for n in range(500)
]


def container(codec: str = "null", fields: list[dict[str, object]] | None = None) -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "Row", "fields": FIELDS if fields is None else fields}
    fastavro.writer(out, schema, ROWS if fields is None else [], codec=codec, sync_interval=1_000)
    return out.getvalue()


def rows_of(folder: Path, data: bytes, **options: int) -> list[object]:
    file = folder / "rows.avro"
    file.write_bytes(data)
    return [record.value for record in read_source(open_source(file, **options), 3)]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "bzip2", "xz"])
def test_each_codec_is_read(tmp_path: Path, codec: str) -> None:
    assert rows_of(tmp_path, container(codec), min_split_bytes=500) == [tuple(row.values()) for row in ROWS]


def zstandard() -> bytes:
    """As `container` of one block, packed by cramjam: fastavro needs another package for it."""
    plain = container()
    head = plain.index(b"null", plain.index(b"avro.codec"))
    out = io.BytesIO()
    parsed = fastavro.parse_schema({"type": "record", "name": "Row", "fields": FIELDS})
    for row in ROWS:
        fastavro.schemaless_writer(out, parsed, row)
    packed = bytes(cramjam.zstd.compress(out.getvalue()))
    empty = io.BytesIO()
    fastavro.writer(empty, parsed, [], codec="null")
    header = empty.getvalue().replace(b"\x08null", b"\x12zstandard")
    assert head > 0
    return header + number(len(ROWS)) + number(len(packed)) + packed + header[-16:]


def number(value: int) -> bytes:
    zigzag, made = value << 1, bytearray()
    while zigzag > 0x7F:
        made.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*made, zigzag])


def test_zstandard_is_read(tmp_path: Path) -> None:
    assert rows_of(tmp_path, zstandard()) == [tuple(row.values()) for row in ROWS]


def test_the_columns_are_those_of_the_schema(tmp_path: Path) -> None:
    (tmp_path / "rows.avro").write_bytes(container())
    assert open_source(tmp_path / "rows.avro").columns() == pl.Schema(
        {"id": pl.Int64, "name": pl.String, "kind": pl.String, "tags": pl.List(pl.String)}
    )
    assert rows_of(tmp_path, container(fields=FIELDS[:2])) == []


def test_fields_that_can_not_be_columns_are_said_before_a_row_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.avro").write_bytes(
        container(fields=[{"name": "m", "type": {"type": "map", "values": "int"}}])
    )
    with pytest.raises(BadConfig, match=r"can't be columns.*got 'map'.*topics"):
        open_source(tmp_path / "rows.avro").columns()


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_a_file_that_is_cut_or_changed_anywhere_is_an_error_that_names_it(tmp_path: Path, codec: str) -> None:
    whole = container(codec)
    wanted = [tuple(row.values()) for row in ROWS]
    for place in [*range(0, 600, 7), *range(600, len(whole) - 1, 301)]:
        changed = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        for data in (whole[:place], changed):
            try:
                found = rows_of(tmp_path, data)
            except (BadConfig, Permanent) as error:
                assert "rows.avro" in str(error)  # noqa: PT017 - some changes are of a value's own bytes
            else:
                assert data is changed or found == wanted[: len(found)]


def test_blocks_that_are_larger_than_allowed_are_refused_packed_and_unpacked(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"byte \d+: a block is larger than max_piece_bytes=100"):
        rows_of(tmp_path, container(), max_piece_bytes=100)
    header = container(codec="deflate", fields=[{"name": "x", "type": "bytes"}])
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(number(100 << 20) + bytes(100 << 20)) + packer.flush()
    data = header + number(1) + number(len(bomb)) + bomb + header[-16:]
    with pytest.raises(Permanent, match="larger than max_piece_bytes=1000000"):
        rows_of(tmp_path, data, max_piece_bytes=1_000_000)
