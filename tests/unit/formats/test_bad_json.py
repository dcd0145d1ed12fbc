"""Bad input of every kind: it is a row or a dead letter with its reason, and its neighbours pass."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from streamcore.batch import OFFSET, PartitionId, RecordChunk
from streamcore.contracts import Decoded
from streamcore.formats import Json, decoder_for, json_decoder
from streamcore.schema import Event, StreamSchema

SOURCE = PartitionId("t", 0, "id")


class Reading(Event):
    """Fields that are not required, so that each case shows its own fault only."""

    a: int | None = None
    f: float | None = None
    s: str | None = None
    b: bool | None = None


SCHEMA = StreamSchema.of(Reading)
STRICT = StreamSchema.from_columns({"a": "int64", "f": "float64", "s": "string", "b": "bool"})
DEEP = 100_000

# name, message, what becomes of it: a code, or the values that differ from null
CASES: list[tuple[str, bytes | None, str | dict[str, object]]] = [
    ("tombstone", None, "tombstone"),
    ("empty", b"", "empty"),
    ("blank", b" \t\r\n ", "empty"),
    ("BOM", b'\xef\xbb\xbf{"a":1}', "json"),
    ("UTF-16", '{"a":1}'.encode("utf-16"), "json"),
    ("Latin-1", '{"s":"é"}'.encode("latin-1"), "json"),
    ("overlong UTF-8", b'{"s":"\xc0\x80"}', "json"),
    ("surrogate in UTF-8", b'{"s":"\xed\xa0\x80"}', "json"),
    ("broken UTF-8 in an unknown field", b'{"z":"\xff","a":1}', "json"),
    ("NUL in a string", b'{"s":"a\x00b"}', "json"),
    ("NUL behind the document", b'{"a":1}\x00', "json"),
    ("escaped NUL", b'{"s":"a\\u0000b"}', {"s": "a\x00b"}),
    ("lone high surrogate", b'{"s":"\\ud800"}', "json"),
    ("lone low surrogate", b'{"s":"\\uDC00"}', "json"),
    ("lone surrogate in an unknown key", b'{"\\ud800":1}', "json"),
    ("paired surrogates", b'{"s":"\\ud83d\\ude00"}', {"s": "😀"}),
    ("NaN", b'{"f":NaN}', "json"),
    ("Infinity", b'{"f":-Infinity}', "json"),
    ("NaN in an unknown field", b'{"z":NaN}', "json"),
    ("beyond a double", b'{"f":1e400}', "json"),
    ("below a double", b'{"f":1e-400}', {"f": 0.0}),
    ("2^63 - 1", b'{"a":9223372036854775807}', {"a": 2**63 - 1}),
    ("2^63", b'{"a":9223372036854775808}', "schema"),
    ("-2^63", b'{"a":-9223372036854775808}', {"a": -(2**63)}),
    ("-2^63 - 1", b'{"a":-9223372036854775809}', "schema"),
    ("2^64", b'{"a":18446744073709551616}', "schema"),
    ("40 digits", b'{"a":' + b"9" * 40 + b"}", "schema"),
    ("5,000 digits", b'{"a":' + b"9" * 5000 + b"}", "json"),
    ("40 digits in an unknown field", b'{"z":' + b"9" * 40 + b',"a":1}', {"a": 1}),
    ("a fraction for an integer", b'{"a":5.5}', "schema"),
    ("a text for an integer", b'{"a":"x"}', "schema"),
    ("a number for a text", b'{"s":5}', "schema"),
    ("a boolean for a text", b'{"s":true}', "schema"),
    ("an object for a text", b'{"s":{"x":1}}', "schema"),
    ("a list for a text", b'{"s":["x"]}', "schema"),
    ("a number as a text", b'{"s":"5"}', {"s": "5"}),
    ("a list for a number", b'{"f":[1]}', "schema"),
    ("a number for a boolean", b'{"b":7}', "schema"),
    ("a repeated key: the first value counts", b'{"a":1,"a":2}', {"a": 1}),
    ("a repeated key of a wrong type", b'{"a":"x","a":2}', "schema"),
    ("a repeated key, escaped", b'{"a":1,"\\u0061":"x"}', {"a": 1}),
    ("a repeated key, number first", b'{"s":5,"s":"5"}', "schema"),
    ("two documents", b'{"a":1}{"a":2}', "json"),
    ("two lines", b'{"a":1}\n{"a":2}', "json"),
    ("a newline between tokens", b'{"a"\n:\n1}\n', {"a": 1}),
    ("a newline in a string", b'{"s":"a\nb"}', "json"),
    ("a carriage return in a string", b'{"s":"a\rb"}', "json"),
    ("a document and garbage", b'{"a":1}x', "json"),
    ("a trailing comma", b'{"a":1,}', "json"),
    ("a comment", b'/* */{"a":1}', "json"),
    ("single quotes", b"{'a':1}", "json"),
    ("leading zero", b'{"a":01}', "json"),
    ("null", b"null", "type"),
    ("a number", b"1", "type"),
    ("a list", b'[{"a":1}]', "type"),
    ("no fields", b"{}", {}),
    ("unknown fields", b'{"z":{"a":5},"a":1}', {"a": 1}),
    ("deep lists", b"[" * DEEP + b"]" * DEEP, "json"),
    ("deep objects in an unknown field", b'{"z":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", "json"),
    ("deep and open", b'{"a":' * DEEP, "json"),
    ("depth 300 in an unknown field", b'{"z":' + b"[" * 300 + b"]" * 300 + b',"a":1}', {"a": 1}),
    ("depth 300 and doubted", b'{"z":' + b"[" * 300 + b"]" * 300 + b',"a":"5"}', {"a": 5}),
    ("a name that is SQL", b'{"\\"; DROP TABLE x --":1,"s":"\\"; DROP"}', {"s": '"; DROP'}),
    ("a path", b'{"s":"../../etc/passwd"}', {"s": "../../etc/passwd"}),
]  # fmt: skip


def decode(schema: StreamSchema, values: list[bytes | None]) -> Decoded:
    return decoder_for(Json(), schema).decode(RecordChunk(SOURCE, range(len(values)), values))


@pytest.mark.parametrize("neighbours", [0, 50, 200], ids=["by rows", "by columns", "by a scan"])
@pytest.mark.parametrize(("message", "outcome"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input(message: bytes | None, outcome: str | dict[str, object], neighbours: int) -> None:
    good = [b'{"a":11,"s":"good"}'] * neighbours
    decoded = decode(SCHEMA, [*good, message, *good])
    rows = {r.pop(OFFSET): r for r in decoded.frame.drop("_sub", "_op").to_dicts()}
    row = rows.pop(neighbours, None)
    assert all(r == {"a": 11, "s": "good", "f": None, "b": None} for r in rows.values())
    assert len(rows) == 2 * neighbours
    if isinstance(outcome, str):
        assert row is None
        assert decoded.rejects.frame[OFFSET].to_list() == [neighbours]
        assert decoded.rejects.frame["code"].item() == outcome
    else:
        assert row == {"a": None, "f": None, "s": None, "b": None, **outcome}
        assert decoded.rejects.frame.is_empty()


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"5"}',
        '{"a":5.0}',
        '{"a":1e3}',
        '{"a":true}',
        '{"b":"true"}',
        '{"b":1}',
        '{"f":"1.5"}',
        '{"f":true}',
    ],
)
@pytest.mark.parametrize("neighbours", [0, 40, 400], ids=["by rows", "by columns", "by a scan"])
def test_pydantic_converts_for_an_event_and_nothing_does_for_plain_columns(
    text: str, neighbours: int
) -> None:
    texts = [b'{"a":1}'] * neighbours + [text.encode()]
    assert len(decode(SCHEMA, list(texts)).frame) == len(texts)
    assert decode(STRICT, list(texts)).rejects.frame["code"].to_list() == ["schema"]


def test_a_document_cut_at_every_byte() -> None:
    whole = b'{"a":-12,"f":1.5e3,"s":"\\u00e9\xc3\xa9\\n","b":true,"z":[{"k":null}]}'
    decoded = decode(SCHEMA, [whole[:end] for end in range(len(whole) + 1)])
    assert decoded.frame[OFFSET].to_list() == [len(whole)]
    assert decoded.rejects.frame[OFFSET].to_list() == list(range(len(whole)))


def test_two_wrongs_that_keep_the_row_count_right() -> None:
    """An empty message and one of two lines: as many rows as messages, one place off."""
    good = [b'{"a":%d}' % i for i in range(100)]
    decoded = decode(SCHEMA, [b"", *good, b'{"a":1}\n{"a":2}'])
    assert decoded.frame["a"].to_list() == list(range(100))
    assert decoded.frame[OFFSET].to_list() == list(range(1, 101))


@pytest.mark.parametrize(
    "wrong",
    [
        (b'{"z":[{"x":1}', b'{"y":2}]}', b'{"a":1},{"a":2}'),
        (b'{"s":"}', b'{", "a":1}', b'{"a":1} , {"a":2}'),
        (b'{"z":[{"x":1}', b'{"y":2}]}', b'{"a":1},2'),
        (b'{"z":[{"x":1}', b'{"y":2}],"a":1},{"a":2}'),
    ],
)
def test_documents_that_are_right_only_side_by_side(wrong: tuple[bytes, ...]) -> None:
    """As many rows as messages if they are joined by commas, and each of the wrong ones is no JSON."""
    good: list[bytes | None] = [b'{"a":%d}' % i for i in range(100)]
    decoded = decode(SCHEMA, [*good[:50], *wrong, *good[50:]])
    assert decoded.frame["a"].to_list() == list(range(100))
    assert decoded.rejects.frame["code"].to_list() == ["json"] * len(wrong)


@pytest.mark.parametrize("share", [2, 1000], ids=["half", "one in a thousand"])
def test_poison_costs_a_bounded_number_of_column_reads(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is linear: read, sift and read again, at worst once more in sixteenths; the rest goes by rows."""
    calls = []
    read = pl.read_ndjson
    monkeypatch.setattr(json_decoder.pl, "read_ndjson", lambda *a, **k: (calls.append(1), read(*a, **k))[1])
    values: list[bytes | None] = [b'{"a":1' if i % share == 0 else b'{"a":1}' for i in range(20_000)]
    decoded = decode(SCHEMA, values)
    assert len(decoded.rejects) == sum(v == b'{"a":1' for v in values)
    assert len(decoded.frame) + len(decoded.rejects) == 20_000
    assert len(calls) <= 18


def test_64_mb_strings_end_as_rows_within_bounded_memory() -> None:
    """In a process of its own, whose peak can be measured: at most 8 times the chunk."""
    script = """
import resource
from streamcore.batch import PartitionId, RecordChunk
from streamcore.formats import Json, decoder_for
from streamcore.schema import StreamSchema
schema = StreamSchema.from_columns({"a": "int64", "s": "string"})
decoder = decoder_for(Json(), schema)
decoder.decode(RecordChunk(PartitionId("t", 0, "t"), range(200), [b'{"a":1}'] * 200))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = 64 << 20
values = [b'{"a":1}'] * 100 + [b'{"s":"' + b"x" * size + b'"}', b'{"s":"' + b"x" * size]
decoded = decoder.decode(RecordChunk(PartitionId("t", 0, "t"), range(len(values)), values))
assert decoded.frame.height == 101 and decoded.rejects.frame["code"].to_list() == ["json"]
assert decoded.frame["s"].str.len_bytes().max() == size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 8 * 128
