"""Messages of logical replication: whatever the batches, the same changes, and going on at any place."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import pyarrow as pa
import pytest

from streamcore.sources.pgoutput import Changes, Messages, Place, Truncated
from streamcore.sources.postgres_changes import parts_of

INT8, TEXT = 20, 25


def relation(id: int, name: str, full: bool = False) -> bytes:
    columns = [(1, b"id", INT8), (0, b"name", TEXT)]
    head = b"R" + struct.pack(">i", id) + b"public\0" + name.encode() + b"\0" + (b"f" if full else b"d")
    body = [bytes([key or full]) + n + b"\0" + struct.pack(">ii", type_, -1) for key, n, type_ in columns]
    return head + struct.pack(">h", 2) + b"".join(body)


def row(*values: str | None) -> bytes:
    cells = [b"n" if v is None else b"t" + struct.pack(">i", len(v.encode())) + v.encode() for v in values]
    return struct.pack(">h", len(values)) + b"".join(cells)


def insert(table: int, id: int, name: str | None) -> bytes:
    return b"I" + struct.pack(">i", table) + b"N" + row(str(id), name)


def update(table: int, id: int, name: str | None, key: int | None = None) -> bytes:
    old = b"" if key is None else b"K" + row(str(key), None)
    return b"U" + struct.pack(">i", table) + old + b"N" + row(str(id), name)


def delete(table: int, id: int) -> bytes:
    return b"D" + struct.pack(">i", table) + b"K" + row(str(id), None)


def log(seed: int, transactions: int = 30) -> tuple[list[bytes], list[tuple[int, str | None, bool]]]:
    """Messages of *transactions* (some of them empty), and the rows that they tell of: id, name, gone."""
    rng = random.Random(seed)
    messages, rows, at = [relation(7, "users")], list[tuple[int, str | None, bool]](), 100
    for _ in range(transactions):
        changes = [rng.choice("IUMD") for _ in range(rng.choice([0, 1, 1, 2, 9]))]
        commit = at = at + rng.randint(1, 50)
        messages.append(b"B" + struct.pack(">qqi", commit, 0, 1))
        if rng.random() < 0.2:
            messages.append(relation(7, "users"))
        for kind in changes:
            id, name = rng.randint(0, 999), rng.choice([None, "", "ann", "Zoë" * 9])
            if kind == "D":
                messages.append(delete(7, id))
                rows.append((id, None, True))
                continue
            if kind == "M":
                messages.append(update(7, id, name, key=id + 1000))
                rows.append((id + 1000, None, True))
            else:
                messages.append((insert if kind == "I" else update)(7, id, name))
            rows.append((id, name, False))
        at += rng.randint(1, 50)
        messages.append(b"C" + struct.pack(">bqqq", 0, commit, at, 0))
    return messages, rows


def told(found: Sequence[Changes | Truncated]) -> list[tuple[int, str | None, bool]]:
    rows = list[tuple[int, str | None, bool]]()
    for change in found:
        assert isinstance(change, Changes)
        for part in parts_of(change, ("insert", "update", "delete"), "users", ["id"]):
            assert part.chunk.frame is not None
            names = [None] * len(part.chunk) if part.deleted else part.chunk.frame["name"].to_list()
            ids = part.chunk.frame["id"].to_list()
            rows += [(id, name, part.deleted) for id, name in zip(ids, names, strict=True)]
    return rows


def in_batches(messages: Sequence[bytes], rng: random.Random) -> list[pa.BinaryArray]:
    batches, at = [], 0
    whole = pa.array(messages, pa.binary())
    while at < len(messages):
        size = rng.choice([1, 2, 7, 40])
        batches.append(whole[at : at + size])  # a slice: its offsets do not begin at 0
        at += size
    return batches


@pytest.mark.parametrize("seed", range(40))
def test_any_batches_tell_the_same_and_each_place_leads_to_the_rest(seed: int) -> None:
    messages, rows = log(seed)
    rng = random.Random(seed)
    reader, read, places = Messages(Place()), list[tuple[int, str | None, bool]](), []
    for batch in in_batches(messages, rng):
        read += told(reader.read(batch))
        places.append((reader.place, len(read)))
    assert read == rows
    for place, count in rng.sample(places, min(8, len(places))):
        again = Messages(Place.unpack(place.pack()))
        rest = [row for batch in in_batches(messages, rng) for row in told(again.read(batch))]
        assert rest == rows[count:]
        assert again.place == reader.place


def test_tables_are_told_apart_and_a_truncate_comes_in_its_order() -> None:
    messages = [
        relation(7, "users"),
        relation(8, "orders"),
        b"B" + struct.pack(">qqi", 100, 0, 1),
        insert(7, 1, "a"),
        insert(8, 2, "b"),
        b"T" + struct.pack(">ibi", 1, 0, 7),
        insert(7, 3, "c"),
        b"C" + struct.pack(">bqqq", 0, 100, 200, 0),
    ]
    found = Messages(Place()).read(pa.array(messages, pa.binary()))
    assert [c.relation.name if isinstance(c, Changes) else c.relations for c in found] == [
        "public.users",
        "public.orders",
        (7,),
        "public.users",
    ]
