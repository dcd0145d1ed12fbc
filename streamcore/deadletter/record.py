"""The dead letter as a record of a topic.

The value is the record as it came (bytes, or one row as an Arrow IPC stream), the key is the
original key, and the headers say the rest, as text. A row of a text file that was read in columns also
has them in ``sc-row`` (Arrow IPC), which is what a redrive decodes. The id is (topology, stage, position,
sub-index); readers fold repeats of an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamcore.batch import (
    OFFSET,
    SUB,
    Chunk,
    Original,
    PartitionId,
    RecordChunk,
    Rejects,
    arrow_bytes,
)
from streamcore.contracts import Header, Records

ID, STREAM, STAGE, CODE, MESSAGE = "sc-id", "sc-stream", "sc-stage", "sc-code", "sc-message"
TOPIC, TOPIC_ID, PARTITION, AT, SUB_INDEX = "sc-topic", "sc-topic-id", "sc-partition", "sc-at", "sc-sub"
ENCODING, ATTEMPTS, TIME = "sc-encoding", "sc-attempts", "sc-time"
ROW, UNTIL = "sc-row", "sc-until"
REQUIRED = {ID, STREAM, STAGE, CODE, MESSAGE, TOPIC, TOPIC_ID, PARTITION, AT, SUB_INDEX} | {
    ENCODING, ATTEMPTS, TIME
}  # fmt: skip
"""Headers that make a record a dead letter; others in the topic are left out."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused row.

    ``source`` and ``offset`` are where the record stood, ``sub`` the row's place in it; ``stage`` is
    the node that refused it; ``time`` is in seconds since the epoch; ``attempts`` counts how often it
    was tried; ``row`` is the row in columns (Arrow IPC) where ``value`` is text that was read in columns,
    otherwise empty; every letter of this source that lies before this one in the topic is of a position
    below ``until``; ``log_partition`` and ``log_offset`` are its own place in the dead-letter topic.
    """

    id: str
    stream: str
    source: PartitionId
    offset: int
    sub: int
    stage: str
    code: str
    message: str
    encoding: str
    attempts: int
    time: float
    key: bytes | None
    value: bytes | None
    row: bytes
    until: int | None
    log_partition: int
    log_offset: int


class Origin(NamedTuple):
    """What a dead letter says of a row beyond its chunk.

    ``stream`` it belongs to, ``attempts`` including this one, and the ``encoding`` of its bytes and
    the ``row`` in columns where the chunk doesn't know them (a redriven record).
    """

    stream: str
    attempts: int = 1
    encoding: str | None = None
    row: bytes = b""


def letter_id(topology: str, stage: str, source: PartitionId, offset: int, sub: int) -> str:
    """The identity of a refused row, stable over restarts."""
    return f"{topology}:{stage}:{source.topic_id}:{source.partition}:{offset}:{sub}"


def to_records(
    topology: str,
    chunk: Chunk,
    rejects: Rejects,
    origins: Sequence[Origin],
    *,
    until: int,
    now: float,
    partitions: int,
) -> Records:
    """*rejects* of *chunk* as records for a dead-letter topic with *partitions* partitions.

    *origins* has one entry a reject. No row of the source at *until* or after it has been refused so far.
    *now* is in seconds since the epoch.
    """
    frame, source, count = rejects.frame, chunk.source, len(rejects)
    offsets = frame[OFFSET].to_list()
    originals = [chunk.original(o) for o in offsets]
    keys = _keys(chunk, rejects)
    ids = [
        letter_id(topology, stage, source, offset, sub)
        for stage, offset, sub in zip(frame["stage"], offsets, frame[SUB], strict=True)
    ]
    headers: tuple[Header, ...] = (
        (ID, _texts(ids)),
        (STREAM, _texts(o.stream for o in origins)),
        (STAGE, _texts(frame["stage"])),
        (CODE, _texts(frame["code"])),
        (MESSAGE, _texts(frame["message"])),
        (TOPIC, source.topic.encode()),
        (TOPIC_ID, source.topic_id.encode()),
        (PARTITION, str(source.partition).encode()),
        (AT, _texts(offsets)),
        (SUB_INDEX, _texts(frame[SUB])),
        (ENCODING, _texts(o.encoding or r.encoding for o, r in zip(origins, originals, strict=True))),
        (ATTEMPTS, _texts(o.attempts for o in origins)),
        (TIME, f"{now:.3f}".encode()),
        (UNTIL, str(until).encode()),
        (ROW, _rows(chunk, offsets, originals, origins)),
    )
    return Records(
        values=pa.array([o.data for o in originals], pa.binary()),
        timestamps=np.full(count, int(now * 1000), np.int64),
        keys=pa.array(keys, pa.binary()),
        partitions=np.full(count, source.partition % partitions, np.int32),
        headers=headers,
    )


def to_records_again(letters: Sequence[DeadLetter], now: float) -> Records:
    """*letters* as records of the redrive topic: the same headers, in partition 0."""
    columns: dict[str, list[object]] = {
        ID: [x.id for x in letters],
        STREAM: [x.stream for x in letters],
        STAGE: [x.stage for x in letters],
        CODE: [x.code for x in letters],
        MESSAGE: [x.message for x in letters],
        TOPIC: [x.source.topic for x in letters],
        TOPIC_ID: [x.source.topic_id for x in letters],
        PARTITION: [x.source.partition for x in letters],
        AT: [x.offset for x in letters],
        SUB_INDEX: [x.sub for x in letters],
        ENCODING: [x.encoding for x in letters],
        ATTEMPTS: [x.attempts for x in letters],
        TIME: [f"{x.time:.3f}" for x in letters],
    }
    return Records(
        values=pa.array([x.value for x in letters], pa.binary()),
        timestamps=np.full(len(letters), int(now * 1000), np.int64),
        keys=pa.array([x.key for x in letters], pa.binary()),
        partitions=np.zeros(len(letters), np.int32),
        headers=(
            *((name, _texts(values)) for name, values in columns.items()),
            (ROW, pa.array([x.row for x in letters], pa.binary())),
        ),
    )


def from_chunk(chunk: RecordChunk) -> list[DeadLetter]:
    """The dead letters in a chunk of the dead-letter (or redrive) topic; other records are left out."""
    found = []
    keys = chunk.keys()
    for place, (offset, value) in enumerate(zip(chunk.offsets().tolist(), chunk.values(), strict=True)):
        raw = dict(chunk.headers(offset))
        if raw.keys() >= REQUIRED:
            row = raw.pop(ROW, b"")
            headers = {name: data.decode(errors="replace") for name, data in raw.items()}
            found.append(_letter(headers, keys[place], value, row, chunk.source.partition, offset))
    return found


def _letter(
    headers: dict[str, str],
    key: bytes | None,
    value: bytes | None,
    row: bytes,
    partition: int,
    offset: int,
) -> DeadLetter:
    return DeadLetter(
        id=headers[ID],
        stream=headers[STREAM],
        source=PartitionId(headers[TOPIC], int(headers[PARTITION]), headers[TOPIC_ID]),
        offset=int(headers[AT]),
        sub=int(headers[SUB_INDEX]),
        stage=headers[STAGE],
        code=headers[CODE],
        message=headers[MESSAGE],
        encoding=headers[ENCODING],
        attempts=int(headers[ATTEMPTS]),
        time=float(headers[TIME]),
        key=key,
        value=value,
        row=row,
        until=int(headers[UNTIL]) if UNTIL in headers else None,
        log_partition=partition,
        log_offset=offset,
    )


def _rows(
    chunk: Chunk, offsets: Sequence[int], originals: Sequence[Original], origins: Sequence[Origin]
) -> pa.BinaryArray:
    """The columns of each record whose original is text that the reader could cut."""
    frame, rows = chunk.frame, [origin.row for origin in origins]
    if frame is not None:
        readable = set(chunk.offsets().tolist())
        for place, (offset, original) in enumerate(zip(offsets, originals, strict=True)):
            if original.encoding == "bytes" and offset in readable:
                at = int(chunk.index(np.array([offset], np.int64))[0])
                rows[place] = arrow_bytes(frame[at])
    return pa.array(rows, pa.binary())


def _keys(chunk: Chunk, rejects: Rejects) -> list[bytes | None]:
    keys = chunk.keys()
    if not keys:
        return [None] * len(rejects)
    readable = set(chunk.offsets().tolist())  # what the reader itself could not cut has no key
    return [
        keys[int(chunk.index(np.array([o], np.int64))[0])] if o in readable else None
        for o in rejects.frame[OFFSET].to_list()
    ]


def _texts(values: Iterable[object]) -> pa.BinaryArray:
    return pa.array([str(v).encode() for v in values], pa.binary())
