"""Bad input of every format: each case ends in rows, in refused records with a reason, or in one error."""

from __future__ import annotations

import errno
import gzip
import json
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import cramjam
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from batch_adapters.catalogue import open_source
from batch_adapters.files import reading
from batch_adapters.local_files import LocalFile
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.testing.sources import ReadRecord, read_source

Shown = list[tuple[object, ...] | str | bytes | None]


def shown(records: list[ReadRecord]) -> Shown:
    """Values of good records, codes of refused ones."""
    return [record.refused or record.value for record in records]  # type: ignore[misc]


CSV = {
    "empty": (b"", []),
    "byte order mark only": (b"\xef\xbb\xbf", []),
    "blank lines only": (b"\r\n\n\r", []),
    "header only": (b"a,b", []),
    "byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", [("1", "2")]),
    "no newline at the end": (b"a,b\n1,2", [("1", "2")]),
    "CRLF": (b"a,b\r\n1,2\r\n", [("1", "2")]),
    "lone CR": (b"a,b\r1,2\r3,4", [("1", "2"), ("3", "4")]),
    "all line ends": (b"a,b\n1,2\r\n3,4\r5,6\n", [("1", "2"), ("3", "4"), ("5", "6")]),
    "NUL": (b"a,b\n1\x00,2\n", [("1\x00", "2")]),
    "empty and null": (b'a,b\n"",\n', [("", None)]),
    "quoted newline": (b'a,b\n"1\r\n\n",2\n', [("1\r\n\n", "2")]),
    "too few and too many": (b"a,b\n1\n1,2\n1,2,3\n", ["ragged", ("1", "2"), "ragged"]),
    "not UTF-8": (b"a,b\n\xff,1\n2,\xc3\xa9\n", ["encoding", ("2", "é")]),
    "surrogate as UTF-8": (b"a,b\n\xed\xa0\x80,1\n2,3\n", ["encoding", ("2", "3")]),
    "text after a closing quote": (b'a,b\n"1"x,2\n3,4\n', ["quote", ("3", "4")]),
    "quote inside a field": (b'a,b\n5" pipe,2\n3,4\n', [('5" pipe', "2"), ("3", "4")]),
    "quote never closed": (b'a,b\n1,"2\n3,4\n5,6\n', ["quote", ("3", "4"), ("5", "6")]),
    "quote at the very end": (b'a,b\n1,2\n3,"', [("1", "2"), "quote"]),
    "SQL and paths as values": (b'a,b\n"""; DROP TABLE x",../..\n', [('"; DROP TABLE x', "../..")]),
    "spaces are data": (b"a,b\n 1 ,\t\n", [(" 1 ", "\t")]),
}


@pytest.mark.parametrize("case", CSV)
def test_bad_csv(case: str, tmp_path: Path) -> None:
    data, expected = CSV[case]
    (tmp_path / "x.csv").write_bytes(data)
    assert shown(read_source(open_source(tmp_path / "x.csv", delimiter=","))) == expected


JSON = {
    "empty": (b"", []),
    "empty array": (b" [ ] \n", []),
    "blank lines": (b"\n1\n\r\n2", [b"1", b"2"]),
    "byte order mark": (b"\xef\xbb\xbf[1,2]", [b"1", b"2"]),
    "UTF-16": ("[1,2]".encode("utf-16"), [b"1", b"2"]),
    "missing elements": (b"[,1,,2,]", ["empty", b"1", "empty", b"2", "empty"]),
    "array cut off": (b'[1,{"a":', [b"1", "truncated"]),
    "array cut off after a comma": (b"[1,", [b"1", "truncated"]),
    "array cut off in a string": (b'[1,"]', [b"1", "truncated"]),
    "text after the array": (b"[1]\n[2]", [b"1", "trailing"]),
    "much white space": (b" " * 200_000 + b"[1]" + b"\n" * 200_000, [b"1"]),
    "text after much white space": (b"[1]" + b"\n" * 200_000 + b"x", [b"1", "trailing"]),
    "wrong brackets": (b"[1,2}3]", [b"1", "brackets"]),
    "garbage between elements": (b"[1 x 2,3]", [b"1 x 2", b"3"]),
    "NUL and bad UTF-8 are the decoder's": (b"[\x00,\xff]", [b"\x00", b"\xff"]),
    "escapes": (rb'["\\","\"]",2]', [rb'"\\"', rb'"\"]"', b"2"]),
}


@pytest.mark.parametrize("case", JSON)
def test_bad_json(case: str, tmp_path: Path) -> None:
    data, expected = JSON[case]
    (tmp_path / "x.json").write_bytes(data)
    assert shown(read_source(open_source(tmp_path / "x.json"))) == expected


def test_an_element_of_depth_100_000_is_one_record(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    (tmp_path / "x.json").write_bytes(b"[1," + deep + b",2]")
    assert shown(read_source(open_source(tmp_path / "x.json"))) == [b"1", deep, b"2"]


def test_layout_array_of_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": 1}')
    with pytest.raises(Permanent, match=r"x\.json: the file is no JSON array"):
        read_source(open_source(tmp_path / "x.json", layout="array"))


# ---------------------------------------------------------------- huge records


@pytest.mark.parametrize(("quote", "code"), [(b"", "too_large"), (b'"', "too_large")])
def test_a_cell_of_64_mb_is_refused_in_bounded_memory(quote: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,2\n3," + quote + b"x" * (64 << 20) + quote + b"\n5,6\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = read_source(open_source(tmp_path / "x.csv", max_record_bytes=1 << 20))
    assert shown(records) == [("1", "2"), code, ("5", "6")]
    assert len(records[1].value) == 1 << 20  # type: ignore[arg-type]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10


def test_a_cell_of_64_mb_passes_below_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n1," + b"x" * (64 << 20) + b"\n")
    (record,) = read_source(open_source(tmp_path / "x.csv", max_record_bytes=100 << 20))
    assert isinstance(record.value, tuple)
    assert len(record.value[1]) == 64 << 20


def test_a_line_of_json_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ndjson").write_bytes(b'1\n"' + b"x" * 100_000 + b'"\n2\n')
    records = read_source(open_source(tmp_path / "x.ndjson", max_record_bytes=1000))
    assert shown(records) == [b"1", "too_large", b"2"]


def test_an_element_above_the_limit_ends_the_replay_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'[1,"' + b"x" * 100_000 + b'"]')
    with pytest.raises(Permanent, match=r"element of 100002 bytes at byte 3, above max_record_bytes=1000"):
        read_source(open_source(tmp_path / "x.json", max_record_bytes=1000))


@pytest.mark.parametrize("text", [b"[1]%s", b"[1}%s"])
def test_a_rest_above_the_limit_ends_the_replay_with_its_place(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text % (b"x" * 100_000))
    with pytest.raises(Permanent, match=r"from byte \d, above max_record_bytes=1000"):
        read_source(open_source(tmp_path / "x.json", max_record_bytes=1000))


# ---------------------------------------------------------------- cut at every byte

SMALL_CSV = b'a,b\r\n1,"x\ny"\r\n2,"q""r"\r\n'
SMALL_JSON = b'[{"a": "]"},\n [1, 2], "\\""]'


@pytest.mark.parametrize(
    ("name", "data"), [("x.csv", SMALL_CSV), ("x.json", SMALL_JSON), ("x.ndjson", SMALL_JSON)]
)
def test_text_cut_at_every_byte_keeps_all_that_came_before(name: str, data: bytes, tmp_path: Path) -> None:
    whole = read_source(_written(tmp_path / name, data))
    for length in range(len(data)):
        records = read_source(_written(tmp_path / name, data[:length]))
        complete = sum(1 for record in whole[1:] if record.position <= length)
        assert records[:complete] == whole[:complete]


def _written(path: Path, data: bytes):  # type: ignore[no-untyped-def]
    path.write_bytes(data)
    return open_source(path, **({"delimiter": ","} if path.suffix == ".csv" else {}))


def _parquet(path: Path) -> None:
    pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]}).write_parquet(path)


def _excel(path: Path) -> None:
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet().write_row(0, 0, ["a", "b"])


def _gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(SMALL_CSV))


def _zstd(path: Path) -> None:
    path.write_bytes(bytes(cramjam.zstd.compress(SMALL_CSV)))


@pytest.mark.parametrize(
    ("name", "write", "step"),
    [("x.parquet", _parquet, 1), ("x.xlsx", _excel, 37), ("x.csv.gz", _gzip, 1), ("x.csv.zst", _zstd, 1)],
)
def test_binary_files_cut_anywhere_are_a_clear_error(
    name: str, write: Callable[[Path], None], step: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    for length in range(1, len(data), step):
        path.write_bytes(data[:length])
        with pytest.raises((Permanent, BadConfig), match=name):
            read_source(open_source(path))


@pytest.mark.parametrize(
    ("name", "write"), [("x.parquet", _parquet), ("x.xlsx", _excel), ("x.csv.gz", _gzip)]
)
def test_a_flipped_byte_never_crashes(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    """The file is read, or refused by an error that names it; no other exception, no panic."""
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            read_source(open_source(path))
        except StreamcoreError as error:
            assert name in str(error)  # noqa: PT017  (most of the bytes do no harm)


# ---------------------------------------------------------------- compression


def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path) -> None:
    (tmp_path / "x.csv.zst").write_bytes(
        bytes(cramjam.zstd.compress(b"a,b\n" + (b"1," + b"2" * 10_000 + b"\n") * 10_000))
    )
    with pytest.raises(Permanent, match=r"x\.csv\.zst.*250 times its size.*raise max_ratio"):
        read_source(open_source(tmp_path / "x.csv.zst"))


def test_a_file_is_stopped_at_its_decompressed_limit(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000))
    with pytest.raises(Permanent, match=r"more than 1000 bytes.*raise max_decompressed_bytes"):
        read_source(open_source(tmp_path / "x.csv.gz", max_decompressed_bytes=1000))


def test_compression_is_told_by_content_too(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert shown(read_source(open_source(tmp_path / "x.csv"))) == [("1", "2"), ("3", "4")]
    (tmp_path / "y.csv.gz").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(Permanent, match="named as gzip but is not"):
        read_source(open_source(tmp_path / "y.csv.gz"))


# ---------------------------------------------------------------- errors of the system


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), Transient),
        (PermissionError(errno.EACCES, "Permission denied"), Permanent),
        (OSError("Truncated compressed stream"), Permanent),
    ],
)
def test_errors_of_reading_say_whether_to_try_again(
    error: OSError, expected: type[StreamcoreError], tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_bytes(b"")
    with pytest.raises(expected, match=r"x\.csv"), reading(LocalFile.of(tmp_path / "x.csv")):
        raise error


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _excel(tmp_path / "x.xlsx")
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(BadConfig, match=r"install streamcore\[excel\]"):
        open_source(tmp_path / "x.xlsx").columns()


# ---------------------------------------------------------------- encodings


def test_bad_bytes_of_other_encodings_refuse_their_record_only(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("a,b\n€,1\n".encode("cp1252") + b"\x81,2\nx,3\n")
    assert shown(read_source(open_source(tmp_path / "x.csv", encoding="cp1252"))) == [
        ("€", "1"), "encoding", ("x", "3"),
    ]  # fmt: skip
    text = "a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8" + ",3\n4,5\n".encode("utf-16-le")
    (tmp_path / "y.csv").write_bytes(b"\xff\xfe" + text)
    assert shown(read_source(open_source(tmp_path / "y.csv"))) == [("1", "2"), "encoding", ("4", "5")]


# ---------------------------------------------------------------- Parquet and Excel


def test_a_row_group_above_the_limit_is_refused_with_its_size_and_the_remedy(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(10_000)}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        BadConfig, match=r"row group 0 holds \d+ bytes, above max_piece_bytes=1000.*write the file"
    ):
        open_source(tmp_path / "x.parquet", max_piece_bytes=1000).splits(1)


def test_parquet_of_every_kind_of_column(tmp_path: Path) -> None:
    table = pa.table(
        {
            "d": pa.array(["x", None]).dictionary_encode(),
            "l": pa.array([[1], None]),
            "s": pa.array([{"a": 1}, None]),
            '"; DROP TABLE x': pa.array([float("nan"), float("inf")]),
            "n": pa.array([None, None], pa.null()),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    columns = source.columns()
    assert columns is not None
    assert columns["d"] == pl.String
    first, second = read_source(source)
    assert first.value[:3] == ("x", [1], {"a": 1})  # type: ignore[index]
    assert second.value[1:] == (None, None, float("inf"), None)  # type: ignore[index]


@pytest.mark.parametrize("inside", [False, True])
def test_decimals_that_no_column_holds_are_named_before_a_row_is_read(inside: bool, tmp_path: Path) -> None:
    """polars would panic, with a trace of Rust on standard error."""
    values = pa.array([Decimal("1.25")], pa.decimal256(50, 2))
    column = pa.StructArray.from_arrays([values], ["much"]) if inside else values
    pq.write_table(pa.table({"id": [1], "total": column}), path := tmp_path / "wide.parquet")
    source = open_source(path)
    for look in (source.columns, lambda: source.splits(1)):
        with pytest.raises(BadConfig, match=r"wide\.parquet: the column 'total' holds decimals of more"):
            look()


def test_a_file_that_only_looks_like_parquet_names_itself(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + struct.pack("<i", 1 << 30) + b"PAR1")
    with pytest.raises(BadConfig, match=r"x\.parquet: the Parquet file is broken"):
        open_source(tmp_path / "x.parquet").columns()


def test_a_workbook_that_expands_too_far_is_not_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * (8 << 20))
    with pytest.raises(BadConfig, match=r"holds 8388608 bytes, above max_piece_bytes=1000000"):
        open_source(tmp_path / "x.xlsx", max_piece_bytes=1_000_000).columns()


def test_a_workbook_that_lies_about_its_size_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * (8 << 20))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 8 << 20), struct.pack("<I", 1000)))
    with pytest.raises(BadConfig, match=r"bad check sum of xl/worksheets/sheet1\.xml"):
        open_source(path, max_piece_bytes=1_000_000).columns()


def test_values_of_json_files_are_the_documents_bytes(tmp_path: Path) -> None:
    documents = [{"a": 2**70}, {"a": "\ud800"}, {"a": 1, "b": None}]
    (tmp_path / "x.json").write_text(json.dumps(documents))
    assert [json.loads(r.value) for r in read_source(open_source(tmp_path / "x.json"))] == documents  # type: ignore[arg-type]


def test_rows_of_parquet_with_broken_text_are_refused(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", None], pa.binary())
    text = pa.StringArray.from_buffers(3, *raw.buffers()[1:], raw.buffers()[0])
    pq.write_table(pa.table({"a": [1, 2, 3], "b": text}), tmp_path / "x.parquet")
    first, second, third = read_source(open_source(tmp_path / "x.parquet"))
    assert (first.value, second.refused, third.value) == ((1, "fine"), "encoding", (3, None))
    assert b"\xff\xfe" in second.value  # type: ignore[operator]
