"""JSON: Python's json module is the oracle, and no cut of the reading shows in what is read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from batch_adapters.catalogue import open_source
from streamcore.errors import Permanent
from streamcore.testing.sources import ReadRecord, read_split

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},: \né\u2028', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
INDENTS = st.sampled_from([None, 0, 2])


def read(data: bytes, max_bytes: int = 1 << 20, **options: str | int) -> list[ReadRecord]:
    """The records of a file that holds *data*."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        path.write_bytes(data)
        (split,) = open_source(path, **options).splits(1)
        return read_split(split, max_bytes=max_bytes)


@given(st.lists(VALUES), INDENTS, st.integers(2, 50), st.booleans())
@settings(max_examples=300, deadline=None)
@example(["\\", '\\"', "]"], None, 3, False)
def test_an_array_is_read_element_by_element(
    values: list[object], indent: int | None, max_bytes: int, ascii_only: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    records = read(data, max_bytes)
    assert [json.loads(record.value) for record in records] == values  # type: ignore[arg-type]
    for record in records:
        assert data[record.position :].startswith(record.value)  # type: ignore[arg-type]


@given(st.lists(VALUES, min_size=1), st.sampled_from(["\n", "\r\n", "\n\n"]), st.integers(2, 50))
@settings(max_examples=200, deadline=None)
def test_lines_are_read_document_by_document(values: list[object], newline: str, max_bytes: int) -> None:
    data = newline.join(json.dumps(value) for value in values).encode()
    records = read(data, max_bytes, layout="lines")
    assert [json.loads(record.value) for record in records] == values  # type: ignore[arg-type]


@given(st.text(alphabet='[]{},"\\ 1\n', max_size=40), st.integers(2, 20))
@settings(max_examples=600, deadline=None)
@example("1}]", 2)
@example("]]", 2)
@example(",", 2)
@example("1 , ] ", 2)
def test_no_text_of_a_broken_array_is_lost(text: str, max_bytes: int) -> None:
    """All that is not white space, a comma or a bracket of the array itself is in some record."""
    data = b"[" + text.encode()
    records = read(data, max_bytes)
    assert records == read(data)
    covered = {
        place
        for record in records
        for place in range(record.position, record.position + max(1, len(record.value)))  # type: ignore[arg-type]
    }
    left = {data[place : place + 1] for place in range(1, len(data)) if place not in covered}
    assert left <= {b" ", b"\n", b",", b"]"}
    for record in records:
        assert data[record.position :].startswith(record.value)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 30).map(lambda n: "x" * n), min_size=1), st.integers(5, 25))
@settings(max_examples=200, deadline=None)
def test_the_limit_of_an_element_holds_in_any_reading(values: list[str], limit: int) -> None:
    """An element above the limit ends the replay with its place, whatever the size of the reads."""
    data = json.dumps(values, separators=(",", ":")).encode()
    for max_bytes in (2, 11, 1000):
        if max(len(value) + 2 for value in values) > limit:
            with pytest.raises(Permanent, match="max_record_bytes"):
                read(data, max_bytes, max_record_bytes=limit)
        else:
            assert len(read(data, max_bytes, max_record_bytes=limit)) == len(values)
