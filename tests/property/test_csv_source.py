"""CSV: Python's csv module is the oracle, and no cut of the reading shows in what is read."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import example, given, settings

from batch_adapters.catalogue import open_source
from streamcore.testing.sources import ReadRecord, read_split

NASTY = st.text(alphabet="ab1\", \t;|\r\n'\ufeff\x00é😀", max_size=8)
FIELDS = st.one_of(NASTY, st.text(max_size=6).filter(lambda t: t.isprintable() or "\n" in t), st.just(""))
RAW = st.text(alphabet='a",\r\n\ufeffé', max_size=60)


def read(data: bytes, max_bytes: int = 1 << 20, **options: str | int | bool) -> list[ReadRecord]:
    """The records of a file that holds *data*, without a header."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        path.write_bytes(data)
        source = open_source(path, **{"delimiter": ",", "header": False, "encoding": "utf-8", **options})
        (split,) = source.splits(1)
        return read_split(split, max_bytes=max_bytes)


def oracle(text: str) -> list[list[str]]:
    """What Python's csv module reads; blank lines are no rows."""
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(FIELDS, min_size=n, max_size=n), min_size=1)))
@settings(max_examples=300, deadline=None)
@example([["\ufeffa"], ["\ufeffb"]])
@example([["a\r", "b"], ["x", "y\r"]])
def test_what_the_csv_module_writes_is_read_back(rows: list[list[str]]) -> None:
    """Quoted empty fields stay empty strings, and no field is changed."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [list(r.value) for r in read(out.getvalue().encode())] == rows  # type: ignore[call-overload]


@given(RAW, st.integers(1, 40))
@settings(max_examples=600, deadline=None)
@example('"a\r",b\r\nc,d\r\n', 1)
@example('a,5" b,c\n"",x,""""\n', 3)
@example("a\r\rb\r\n\r\nc", 2)
def test_any_text_is_read_as_the_csv_module_reads_it(text: str, max_bytes: int) -> None:
    """Rows are the oracle's, or they are refused with all of their text; nothing is lost."""
    text = text.lstrip("\ufeff")
    records = read(text.encode(), max_bytes)
    assert records == read(text.encode())
    expected = oracle(text)
    codes = {record.refused for record in records}
    if codes <= {None, "ragged"}:
        fields = [r.value for r in records]
        assert len(records) == len(expected)
        for record, value, row in zip(records, fields, expected, strict=True):
            if record.refused is None:
                assert [field or "" for field in value] == row  # type: ignore[attr-defined]
            else:
                assert oracle(value.decode()) == [row]  # type: ignore[attr-defined]
    else:  # the oracle takes text after a closing quote, and quotes that never close; we refuse those
        assert '"' in text


@given(
    st.lists(
        st.sampled_from([b"1,2", b"3", b'"x\ny",z', b'5",q', b'"s"t,u', b"\xff,1", b"", b"caf\xc3\xa9,1"])
    )
)
@settings(max_examples=200, deadline=None)
def test_each_record_is_at_its_byte(lines: list[bytes]) -> None:
    """The record's position is the place of its bytes in the file, good or bad."""
    data = b"a,b\n" + b"\n".join(lines)
    records = read(data)[1:]
    place, expected = 4, []
    for line in lines:
        if line:
            expected.append((place, line))
        place += len(line) + 1
    assert [record.position for record in records] == [place for place, _ in expected]
    for record, (_, line) in zip(records, expected, strict=True):
        if record.refused:
            assert record.value == line


@given(
    st.lists(st.text(alphabet="ab\n\"', é€", max_size=8), min_size=1),
    st.sampled_from(["utf-16", "utf-32", "cp1252", "gb18030"]),
)
@settings(max_examples=100, deadline=None)
def test_the_encoding_changes_nothing_but_positions(names: list[str], encoding: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([[name, "x"] for name in names])
    records = read(out.getvalue().encode(encoding), 100, encoding=encoding)
    assert [record.value for record in records] == [(name, "x") for name in names]


@given(RAW, st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_the_limit_of_a_record_cuts_alike_in_any_reading(text: str, limit: int) -> None:
    """Records above the limit are refused at the same places whatever the size of the reads."""
    readings = [read(text.encode(), size, max_record_bytes=limit) for size in (1, 9, 1000)]
    assert readings[0] == readings[1] == readings[2]


@given(RAW.map(lambda text: text * 5), st.integers(2, 6))
@settings(max_examples=200, deadline=None)
def test_splits_join_to_the_whole(text: str, wanted: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        path.write_bytes(text.encode())
        source = open_source(path, delimiter=",", header=False, encoding="utf-8", min_split_bytes=1)
        whole = [(r.value, r.refused) for r in read_split(source.splits(1)[0])]
        parts = [(r.value, r.refused) for split in source.splits(wanted) for r in read_split(split)]
    assert parts == whole
