"""Small chunks of several partitions in one passage: a call costs about the same however few the rows.

The cut law allows it: to the stateless part of a topology it is only another cut. A row's position there
is its own, moved behind the positions of the chunks before its own one; what comes out is split and moved
back. Tasks whose rows must be looked at partition by partition (a watermark, dead letters that are known)
take their chunks one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, pairwise

import numpy as np
import polars as pl

from streamcore.asking import Answer, Asking, answered, nobody
from streamcore.batch import OFFSET, Batch, Chunk, Int64s, Original, PartitionId, Rejects, Share
from streamcore.passage import Outcome
from streamcore.task import PartitionTask, RedriveTask


class JointChunk(Chunk):
    """The records of *parts* (chunks of bytes of one topic), at positions that are its own.

    Part *i* has the positions from ``begins[i]`` to ``begins[i + 1]``, in its own order.
    """

    __slots__ = ("begins", "parts")

    def __init__(self, parts: Sequence[Chunk]) -> None:
        self.parts = parts
        self.begins = np.cumsum([0, *(part.end - part.first for part in parts)], dtype=np.int64)
        nowhere = PartitionId(parts[0].source.topic, -1, parts[0].source.topic_id)
        super().__init__(nowhere, 0, int(self.begins[-1]), nbytes=sum(part.nbytes for part in parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def offsets(self) -> Int64s:
        moved = zip(self.parts, self.begins.tolist(), strict=False)
        return np.concatenate([part.offsets() + (begin - part.first) for part, begin in moved])

    def values(self) -> list[bytes | None]:
        return list(chain.from_iterable(part.values() for part in self.parts))

    def keys(self) -> list[bytes | None]:
        return list(chain.from_iterable(part.keys() for part in self.parts))

    def timestamps(self) -> Int64s | None:
        stamps = [part.timestamps() for part in self.parts]
        known = [s for s in stamps if s is not None]
        return np.concatenate(known) if len(known) == len(stamps) else None

    @property
    def rejects(self) -> Rejects:
        """Those of the parts."""
        moved = zip(self.parts, self.begins.tolist(), strict=False)
        return Rejects.join([_moved(part.rejects, begin - part.first) for part, begin in moved])

    @rejects.setter
    def rejects(self, rejects: Rejects) -> None:
        """Nothing: they are the parts'."""

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        part, own = self._find(offset)
        return part.headers(own)

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`."""
        part, own = self._find(offset)
        return part.original(own)

    def _find(self, offset: int) -> tuple[Chunk, int]:
        at = int(np.searchsorted(self.begins, offset, "right")) - 1
        return self.parts[at], offset - int(self.begins[at]) + self.parts[at].first


Work = Sequence[tuple[PartitionTask | RedriveTask, Chunk]]


def on_chunks(work: Work, answer: Answer = nobody) -> list[Outcome]:
    """The result of :func:`asking` when *answer* answers."""
    return answered(asking(work), answer)


def asking(work: Work) -> Asking[list[Outcome]]:
    """The outcome of each chunk by its task, in their order, in one passage where that is possible.

    *work* is of one stream; each partition's chunks follow each other. Raises as
    :meth:`PartitionTask.asking`. What is measured of a joint passage is in the first outcome.
    """
    if len(work) > 1 and all(task.joins and chunk.frame is None for task, chunk in work):
        task, joint = work[0][0], JointChunk([chunk for _, chunk in work])
        try:
            return split((yield from task.asking(joint)), joint)
        except Exception:  # noqa: BLE001, S110 - raised again below, with the partition's own positions
            pass
    outcomes = []
    for task, chunk in work:
        outcomes.append((yield from task.asking(chunk)))
    return outcomes


def split(outcome: Outcome, joint: JointChunk) -> list[Outcome]:
    """*outcome* of *joint* as the outcomes of its parts."""
    parts: dict[int, list[Share]] = {}

    def parts_of(frame: pl.DataFrame) -> list[Share]:
        if id(frame) not in parts:  # sinks may share one, and go on sharing its parts
            parts[id(frame)] = _parts(frame, joint)
        return parts[id(frame)]

    writes = {sink: parts_of(batch.frame) for sink, batch in outcome.writes.items()}
    rejects = _rejects(outcome.rejects, joint)
    found = []
    for i, part in enumerate(joint.parts):
        own = Outcome(part, len(part) + len(part.rejects))
        own.writes = {sink: _batch(part, shares[i]) for sink, shares in writes.items()}
        if outcome.decoded is not None:
            own.decoded = partial(_decoded, outcome.decoded, joint, i)
        own.rejects = rejects[i]
        found.append(own)
    found[0].counts, found[0].seconds = outcome.counts, outcome.seconds
    return found


def _batch(part: Chunk, share: Share) -> Batch:
    rows = share.frame.slice(share.start, share.end - share.start)
    return Batch(rows, {part.source: part.covered}, part, share=share)


def _decoded(decoded: Callable[[], pl.DataFrame], joint: JointChunk, place: int) -> pl.DataFrame:
    frame, start, end = _parts(decoded(), joint)[place]
    return frame.slice(start, end - start)


def _parts(frame: pl.DataFrame, joint: JointChunk) -> list[Share]:
    """The rows of each part, at their own positions; *frame* is in the order of its parts."""
    offsets = frame[OFFSET].to_numpy()
    cuts = np.searchsorted(offsets, joint.begins)
    firsts = np.array([part.first for part in joint.parts], np.int64)
    own = offsets + np.repeat(firsts - joint.begins[:-1], np.diff(cuts))
    frame = _at(frame, own)
    return [Share(frame, start, end) for start, end in pairwise(cuts.tolist())]


def _rejects(rejects: Rejects, joint: JointChunk) -> list[Rejects]:
    """Those of each part; they are in the order of their stages."""
    if not len(rejects):
        return [rejects] * len(joint.parts)
    inside = [
        rejects.frame.filter(pl.col(OFFSET).is_between(*ends, closed="left"))
        for ends in pairwise(joint.begins.tolist())
    ]
    moved = zip(inside, joint.parts, joint.begins.tolist(), strict=False)
    return [_moved(Rejects(frame), part.first - begin) for frame, part, begin in moved]


def _moved(rejects: Rejects, by: int) -> Rejects:
    return Rejects(_at(rejects.frame, rejects.frame[OFFSET].to_numpy() + by)) if len(rejects) else rejects


def _at(frame: pl.DataFrame, offsets: Int64s) -> pl.DataFrame:
    """*frame* at other positions; its columns are not copied."""
    return frame.clone().replace_column(frame.get_column_index(OFFSET), pl.Series(OFFSET, offsets, pl.Int64))
