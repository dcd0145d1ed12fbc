"""What must hold at the end of a simulated run, by the oracle outside of the system."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from streamcore.batch import RecordChunk
from streamcore.deadletter.record import from_chunk
from tests.simulation import oracle
from tests.simulation.branch import Branch, Wanted
from tests.simulation.database import REFUSED
from tests.simulation.oracle import Document, Judged, Letter
from tests.simulation.world import World

_WITH_N = ("passing", "late", "first", "sliding", "unique", "looked-up")
"""Branches whose rows the database may refuse."""


def broken(world: World) -> list[str]:
    """The promises that were broken in *world*, in words."""
    judged = oracle.judged(world.feed)
    wanted = {branch.name: branch.wanted(judged) for branch in world.branches}
    letters = _letters(world)
    told = [*world.errors, *world.loop.errors]
    told += [
        f"a writer that was no owner any more wrote: {s}" for c in world.database.commits for s in c.stale
    ]
    refused = {sink: _refused(letters, sink) for branch in world.branches for sink in branch.sinks}
    for branch in world.branches:
        for sink in branch.sinks:
            told += _sink(world, branch, sink, wanted[branch.name], refused[sink])
    told += _dead(judged, letters, [sink for branch in world.branches for sink in branch.sinks])
    told += _transactions(world, refused)
    return [text for text in told if text]


def _letters(world: World) -> list[Letter]:
    topic = world.broker.topic("dead")
    found: dict[str, Letter] = {}
    for log in topic.logs if topic else ():
        chunk = log.read(log.first, 1 << 30)
        for letter in from_chunk(_records(chunk)) if chunk else ():
            stream = letter.source.topic
            found[letter.id] = Letter(letter.stage, stream, letter.source.partition, letter.offset)
    return list(found.values())


def _records(chunk: Any) -> RecordChunk:
    return chunk  # type: ignore[no-any-return]


def _refused(letters: Sequence[Letter], sink: str) -> set[Letter]:
    return {letter for letter in letters if letter.stage == sink}


def _dead(judged: Judged, letters: Sequence[Letter], sinks: Sequence[str]) -> Iterator[str]:
    """Dead letters of stages are those of the oracle, each once; a sink's own are looked at with the sink."""
    found = Counter(one for one in letters if one.stage not in (*sinks, *judged.counted))
    for stage, count in judged.counted.items():
        there = sum(letter.stage == stage for letter in letters)
        if there != count:
            yield f"{there} dead letters of {stage}, not {count}"
    for letter in judged.letters - found.keys():
        yield f"no dead letter {letter}"
    for letter in found.keys() - judged.letters:
        yield f"a dead letter too many: {letter}"


# ---------------------------------------------------------------- sinks


def _sink(world: World, branch: Branch, sink: str, wanted: Wanted, refused: set[Letter]) -> Iterator[str]:
    kind = sink.partition("-")[0]
    rows = wanted.rows
    if kind == "pg":
        found = world.database.rows(sink)
        if branch.name == "whole":  # each row is in the table or a dead letter, never both
            yield from _whole(world, sink, found, refused)
            return
        if refused and branch.name not in _WITH_N:
            yield f"{sink} refused {len(refused)} rows"
        found = wanted.of(found)
        if branch.name in _WITH_N:
            rows = [row for row in rows if row["n"] != REFUSED]
            found = [row for row in found if row["n"] != REFUSED]
        yield oracle.difference(sink, rows, found)
    elif kind == "files":
        found = list(_lines(world, sink))
        yield oracle.difference(sink, rows, wanted.of(found))
    else:
        yield from _topic(world, branch, sink, wanted)


def _whole(world: World, sink: str, found: Sequence[Document], refused: set[Letter]) -> Iterator[str]:
    judged = oracle.judged(world.feed)
    dead = Counter((letter.stream, letter.partition, letter.offset) for letter in refused)
    places = {(row.stream, row.partition, row.offset): row.document for row in judged.of("rows")}
    alive = [document for place, document in places.items() if place not in dead]
    yield oracle.difference(sink, alive, found)
    odd = [place for place in dead if places.get(place, {}).get("n") != REFUSED]
    if odd:
        yield f"{sink} refused good rows, e.g. {odd[0]}"


def _lines(world: World, sink: str) -> Iterator[Document]:
    for path in sorted((world.folder / sink).rglob("*.jsonl")):
        if "_seals" not in path.parts:
            yield from map(orjson.loads, path.read_bytes().splitlines())


def _topic(world: World, branch: Branch, sink: str, wanted: Wanted) -> Iterator[str]:
    """Records may be there twice, unless exactly once: by their positions each counts once, and the newest
    of a key."""
    topic = world.broker.topic(sink)
    assert topic is not None
    records: dict[bytes, tuple[bytes | None, bytes | None]] = {}
    for log in topic.logs:
        chunk = log.read(log.first, 1 << 30)
        if chunk is None:
            continue
        keys, values = chunk.keys(), chunk.values()
        for place, offset in enumerate(chunk.offsets().tolist()):
            position = dict(chunk.headers(offset))["sc-position"]
            if position in records and sink.startswith("exact"):
                yield f"{sink}: twice there: {values[place]!r}"
            before = records.setdefault(position, (keys[place], values[place]))
            if before != (keys[place], values[place]) and not wanted.key:
                yield f"{sink}: two rows at one position: {before[1]!r} and {values[place]!r}"
    if wanted.changes or not wanted.key:
        found = [orjson.loads(value) for _, value in records.values() if value is not None]
        yield oracle.difference(sink, wanted.rows, wanted.of(found))
    else:
        yield oracle.difference(sink, wanted.rows, list(_newest(records)))


def _newest(records: Mapping[bytes, tuple[bytes | None, bytes | None]]) -> Iterator[Document]:
    by_key: dict[bytes | None, tuple[int, bytes | None]] = {}
    for position, (key, value) in records.items():
        number = int.from_bytes(position[8:16], "big")
        if number >= by_key.get(key, (-1, None))[0]:
            by_key[key] = number, value
    for _, value in by_key.values():
        if value is not None:
            yield orjson.loads(value)


# ---------------------------------------------------------------- positions


def _transactions(world: World, refused: Mapping[str, set[Letter]]) -> Iterator[str]:
    """Each transaction holds the rows of just the positions that it says to hold; those follow each other."""
    reached: dict[object, int] = defaultdict(int)
    for commit in world.database.commits:
        for key, (start, end, _) in commit.ranges.items():
            if start != reached[key]:
                yield f"{commit.sink}: a transaction begins at {start} of {key}, not at {reached[key]}"
            reached[key] = end
        ranges = [(start, end) for start, end, _ in commit.ranges.values()]
        strays = [w for w in commit.rows if not any(start <= w.offset < end for start, end in ranges)]
        if strays:
            yield f"{commit.sink}: a row outside of the positions {ranges}: {strays[0]}"
    for key, position in world.database.positions.items():
        if position.next != reached[key] and reached[key]:
            yield f"{key}: stored position {position.next}, rows up to {reached[key]}"
