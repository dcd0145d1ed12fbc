"""Snapshots of state in the log that the state is made of, so that what lies before them can be dropped.

A snapshot has records of its own among the log's entries: all that the entries before ``as_of`` have led to.
Whoever reads the log from a later beginning holds entries back until a snapshot is complete that reaches
back to it, and goes on with the entries from its ``as_of`` on. By the cut law any process that has read the
same entries may write it, also one that has lost the partition: there is nothing to fence.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import polars as pl

from streamcore.errors import Permanent
from streamcore.event_time import BEGINNING
from streamcore.state.log_record import Upstream
from streamcore.state.operator import State
from streamcore.state.places import MEMORY, Place
from streamcore.state.runs import HASH, Frames, Runs

_MARK = b'["snapshot",'


class Read(NamedTuple):
    """How far an upstream partition is in a log: positions before ``covered``, and the watermark there."""

    covered: int | None
    watermark: int
    idle: bool


@dataclass(frozen=True)
class Snapshot:
    """What the entries of a log before the offset ``as_of`` have led to.

    ``definition`` is that of the entries; ``reads`` says how far each upstream partition is, ``newest`` what
    watermark any of them has had before its end.
    """

    as_of: int
    definition: str
    reads: Mapping[Upstream, Read]
    state: State
    newest: int = BEGINNING

    def records(self, id: str, most_bytes: int) -> Iterator[bytes]:
        """The records of the snapshot, the frames in parts of about *most_bytes*; *id* names it for good."""
        frames = [
            (kind, run, part)
            for kind, runs in enumerate(self.state.kept)
            for run, frame in enumerate(runs)
            for part in _parts(frame.drop(HASH, strict=False), most_bytes)
        ]
        meta = {
            "definition": self.definition,
            "reads": [[*upstream, *read] for upstream, read in self.reads.items()],
            "kinds": len(self.state.kept),
            "newest": self.newest,
            "watermark": self.state.watermark,
            "emitted": self.state.emitted,
            "arrived": self.state.arrived,
            "bytes": sum(int(frame.estimated_size()) for runs in self.state.kept for frame in runs),
        }
        yield _record(id, self.as_of, 0, len(frames) + 1, meta, None)
        for part, (kind, run, frame) in enumerate(frames, start=1):
            yield _record(id, self.as_of, part, len(frames) + 1, {"kind": kind, "run": run}, frame)


def is_snapshot(value: bytes | None) -> bool:
    """Whether a record of a log is part of a snapshot, and no entry."""
    return (value or b"").startswith(_MARK)


def reads_in(value: bytes) -> Mapping[Upstream, Read]:
    """How far the upstream partitions are by a snapshot's record; only its first one says it."""
    _, _, _, _, meta = _head(value)
    return _reads(meta) if "reads" in meta else {}


@dataclass
class SnapshotReader:
    """Puts snapshots together whose ``as_of`` is *least* or later, and notices when one is complete.

    *places*: of each kind of pieces, what is done with its frames as soon as they are read, so that one at
    a time is in memory; without them they stay there as they were written.
    """

    least: int
    places: Sequence[Place] = ()
    _parts: dict[str, _Parts] = field(default_factory=dict)
    part: int = 0
    parts: int = 0
    """How far the snapshot is of which a record was read last."""

    def add(self, value: bytes) -> Snapshot | None:
        """The snapshot that *value* completes. Its frames are as they were written, small ones put together.

        A snapshot's records come in their order; one may come again.
        """
        id, as_of, part, parts, meta = _head(value)
        if as_of < self.least:
            return None
        try:
            if part == 0 and id not in self._parts:
                self._parts[id] = _Parts(as_of, meta, self.places)
            known = self._parts.get(id)
            if known is None or part != known.count:
                return None
            self.part, self.parts = part + 1, parts
            known.add(value)
            if known.count < parts:
                return None
            del self._parts[id]
            return known.snapshot()
        except (ValueError, LookupError, OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable() from error


class _Parts:
    """A snapshot of which *count* records have been read."""

    def __init__(self, as_of: int, meta: Mapping[str, Any], places: Sequence[Place]) -> None:
        self._as_of, self._meta, self._size = as_of, meta, meta.get("bytes", 0)
        self._places = places or [MEMORY] * meta["kinds"]
        self._kept: list[list[pl.DataFrame]] = [[] for _ in range(meta["kinds"])]
        self._at: tuple[int, int] | None = None
        """Kind and run of the frame of which a record was read last."""
        self._frames: Frames | None = None
        self.count = 0

    def add(self, value: bytes) -> None:
        if self.count:
            head, _, body = value.partition(b"\n")
            place = orjson.loads(head)[-1]
            at = (place["kind"], place["run"])
            if at != self._at:
                self._end()
                self._at, self._frames = at, Frames(self._places[at[0]], self._size)
            assert self._frames is not None
            self._frames.add(pl.read_ipc_stream(io.BytesIO(body)))
        self.count += 1

    def _end(self) -> None:
        if self._at is not None and self._frames is not None:
            self._kept[self._at[0]] += self._frames.end()

    def snapshot(self) -> Snapshot:
        self._end()
        meta, kept = self._meta, tuple(Runs(tuple(frames)) for frames in self._kept)
        state = State(kept, meta["watermark"], meta["emitted"], meta["arrived"])
        return Snapshot(self._as_of, meta["definition"], _reads(meta), state, meta["newest"])


def _parts(frame: pl.DataFrame, most_bytes: int) -> Sequence[pl.DataFrame]:
    count = max(1, -(-int(frame.estimated_size()) // most_bytes))
    size = max(1, -(-frame.height // count))
    return [frame[start : start + size] for start in range(0, frame.height, size)]


def _record(
    id: str, as_of: int, part: int, parts: int, meta: Mapping[str, object], frame: pl.DataFrame | None
) -> bytes:
    out = io.BytesIO()
    out.write(orjson.dumps(["snapshot", id, as_of, part, parts, meta], option=orjson.OPT_APPEND_NEWLINE))
    if frame is not None:
        frame.write_ipc_stream(out)
    return out.getvalue()


def _head(value: bytes) -> tuple[str, int, int, int, dict[str, Any]]:
    try:
        _, id, as_of, part, parts, meta = orjson.loads(value[: value.index(b"\n")])
    except ValueError as error:
        raise _unreadable() from error
    return id, as_of, part, parts, meta


def _reads(meta: Mapping[str, object]) -> dict[Upstream, Read]:
    reads = meta["reads"]
    assert isinstance(reads, list)
    return {(topic, number): Read(covered, mark, idle) for topic, number, covered, mark, idle in reads}


def _unreadable() -> Permanent:
    return Permanent(
        "a snapshot in a log of state can't be read", fix="nothing but this topology may write its logs"
    )
