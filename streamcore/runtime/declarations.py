"""By which declarations the logs of state were made: a worker that starts with others says what differs.

The compacted topic ``{topology}.declarations`` has a record for each log. The digest in each record of a log
guards it against rows that were made otherwise; here is the text, so that a person can be told, before
anything is read, and what a digest can't know: that the log has other partitions now, or is gone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher

import numpy as np
import orjson
import pyarrow as pa

from streamcore.contracts import Log, Records
from streamcore.errors import BadConfig, Permanent

SUFFIX = ".declarations"
CONFIG = {"cleanup.policy": "compact"}
_MOST_CHANGES = 3
_TOKENS = re.compile(r"'[^']*'|[\w.]+|\S")
_ANEW = "give it another name= to begin anew with the rows that come from now on"
_AGAIN = "run it as a topology of another name, which reads its streams from their start"


@dataclass(frozen=True)
class Declaration:
    """What *node* keeps in *log*, of *partitions* partitions: it *computes* something of *steps* before it.

    Texts for people; *digest* says whether two are the same. *where* is the file and line.
    """

    node: str
    log: str
    partitions: int
    digest: str
    computes: str
    steps: tuple[str, ...]
    where: str = ""


async def check_declarations(
    log: Log, topology: str, declared: Sequence[Declaration], gone: Collection[str]
) -> None:
    """Compare *declared* with what the logs were made by, and write down those that are new.

    *gone* are the logs that were declared and do not exist. BadConfig for a declaration that has changed,
    Permanent for a log that is gone or has another number of partitions; nothing is written then.
    """
    if not declared:
        return
    topic = topology + SUFFIX
    await log.create(topic, 1, CONFIG)
    stored = await _stored(log, topic)
    for now in declared:
        if (before := stored.get(now.log)) is not None:
            _check(before, now, gone=now.log in gone)
    new = [now for now in declared if now.log not in stored]
    if new:
        values = pa.array([orjson.dumps(asdict(now)) for now in new], pa.binary())
        keys = pa.array([now.log.encode() for now in new], pa.binary())
        await (await log.append(topic, Records(values, np.zeros(len(new), np.int64), keys)))


async def declared_logs(log: Log, topology: str) -> Collection[str]:
    """The logs that were declared by now: all of them had been made before."""
    return (await _stored(log, topology + SUFFIX)).keys()


async def _stored(log: Log, topic: str) -> dict[str, Declaration]:
    found = {}
    for partition, (start, end) in (await log.bounds(topic)).items():
        async for chunk in log.scan(topic, partition, start, end):
            for value in chunk.values():
                read = orjson.loads(value or b"{}")
                found[read["log"]] = Declaration(**{**read, "steps": tuple(read["steps"])})
    return found


def _check(before: Declaration, now: Declaration, *, gone: bool) -> None:
    if gone:
        raise Permanent(
            f"the log of {now.node!r} is gone, and with it the state",
            where=now.where,
            got=now.log,
            fix=f"{_ANEW}, or, to have the state again, {_AGAIN}",
        )
    if now.partitions != before.partitions:
        raise Permanent(
            f"the log of {now.node!r} has another number of partitions: its keys would miss their state",
            where=now.log,
            got=now.partitions,
            allowed=[before.partitions],
            fix=f"{_AGAIN}, or {_ANEW}",
        )
    if now.digest != before.digest:
        raise BadConfig(
            f"{now.node!r} is not what its log was made by: {'; '.join(changes(before, now))}",
            where=now.where,
            fix=f"take that back, or {_ANEW}, or {_AGAIN}",
        )


def changes(before: Declaration, now: Declaration) -> list[str]:
    """What differs, in words; a few of many."""
    found = [*_other_steps(before.steps, now.steps), *_other_words(before.computes, now.computes)]
    if len(found) > _MOST_CHANGES:
        found[_MOST_CHANGES:] = [f"and {len(found) - _MOST_CHANGES} more"]
    return found or ["it was made by another version of streamcore"]


def _other_steps(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    for tag, low, high, start, end in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if tag == "replace" and high - low == end - start:
            yield from (
                f"{old} is now {new}" for old, new in zip(before[low:high], now[start:end], strict=True)
            )
        elif tag != "equal":
            yield from (f"{step} is gone" for step in before[low:high])
            yield from (f"{step} is new" for step in now[start:end])


def _other_words(before: str, now: str) -> Iterator[str]:
    old, new = _TOKENS.findall(before), _TOKENS.findall(now)
    for tag, low, high, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        was, is_now = " ".join(old[low:high]), " ".join(new[start:end])
        if tag == "replace":
            yield f"{was} is now {is_now}"
        elif tag != "equal":
            yield f"{was} is gone" if was else f"{is_now} is new"
