"""Sending dead letters again: onto the topology's own redrive stream, each id once.

A redriven row enters at the stage that refused it (see :class:`streamcore.task.RedriveTask`). When it
is refused again it is a new dead letter with one attempt more, up to a limit: the guard against
loops.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamcore.batch import Chunk, FrameChunk, PartitionId, RecordChunk
from streamcore.contracts import Log
from streamcore.deadletter.reader import Filter, read
from streamcore.deadletter.record import (
    ATTEMPTS,
    ENCODING,
    ROW,
    STREAM,
    DeadLetter,
    Origin,
    from_chunk,
    to_records_again,
)
from streamcore.deadletter.writer import TOPIC_CONFIG
from streamcore.task import Redriven


@dataclass(frozen=True, slots=True)
class RedrivePlan:
    """What a redrive would send, and what it leaves and why."""

    send: tuple[DeadLetter, ...]
    sent_before: int
    over_limit: int


async def plan(log: Log, dead_letters: str, redrive: str, only: Filter, max_attempts: int) -> RedrivePlan:
    """The dead letters of topic *dead_letters* that fit *only* and may go to topic *redrive*.

    Left out: those that are in the redrive topic already, and those tried *max_attempts* times.
    """
    before = {letter.id async for letter in read(log, redrive)}
    send, sent_before, over_limit = [], 0, 0
    async for letter in read(log, dead_letters, only):
        if letter.id in before:
            sent_before += 1
        elif letter.attempts >= max_attempts:
            over_limit += 1
        else:
            send.append(letter)
    return RedrivePlan(tuple(send), sent_before, over_limit)


async def send(log: Log, redrive: str, letters: Sequence[DeadLetter], now: float) -> None:
    """Append *letters* to topic *redrive*, making it if need be; returns when they are durable."""
    await log.create(redrive, 1, TOPIC_CONFIG)
    if not letters:
        return
    records = to_records_again(letters, now)
    await (await log.append(redrive, records))


async def sent_before(log: Log, source: PartitionId, position: int) -> set[str]:
    """The ids in partition *source* of the redrive topic before *position*."""
    bounds = (await log.bounds(source.topic)).get(source.partition)
    if bounds is None or bounds.start >= position:
        return set()
    scan = log.scan(source.topic, source.partition, bounds.start, position)
    return {letter.id async for chunk in scan for letter in from_chunk(chunk)}


def unpack(chunk: Chunk, seen: set[str]) -> list[tuple[Chunk, Redriven]]:
    """Each redriven row of a chunk of the redrive topic, as a chunk of its original record.

    Rows whose id is in *seen* are left out, the others are added to it: two redrives at the same time
    may both have sent a row.
    """
    assert chunk.frame is None
    own = RecordChunk(
        chunk.source,
        chunk.offsets(),
        chunk.values(),
        keys=chunk.keys(),
        headers=[chunk.headers(o) for o in chunk.offsets().tolist()],
    )
    found = []
    for letter in from_chunk(own):
        if letter.id not in seen:
            seen.add(letter.id)
            found.append((_original(chunk, letter), Redriven(letter.stream, letter.stage, letter.sub)))
    return found


def origins(chunk: Chunk) -> dict[int, Origin]:
    """What each redriven row of *chunk*, by offset, would be as a dead letter once more."""
    found = {}
    for offset in chunk.offsets().tolist():
        headers = dict(chunk.headers(offset))
        if ATTEMPTS in headers:
            stream, encoding = headers[STREAM].decode(), headers[ENCODING].decode()
            found[offset] = Origin(stream, int(headers[ATTEMPTS]) + 1, encoding, headers.get(ROW, b""))
    return found


def _original(chunk: Chunk, letter: DeadLetter) -> Chunk:
    at = np.array([letter.log_offset], np.int64)
    end = letter.log_offset + 1
    columns = letter.value if letter.encoding == "arrow" else letter.row
    if columns:
        frame = pl.read_ipc_stream(io.BytesIO(columns))
        return FrameChunk(chunk.source, at, frame, first=letter.log_offset, end=end)
    return RecordChunk(chunk.source, at, [letter.value], keys=[letter.key])
