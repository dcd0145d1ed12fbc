"""Seals: the log of what a file sink has written for one partition, and its fence.

A seal is a small file or object that is made once and never changed::

    <storage>/_seals/<stream>/<partition>/<START, 20 digits>-<turn, 6 digits>

It holds JSON: ``end``, ``rows``, ``outputs`` (paths below the storage) with their ``receipts``, ``owner``,
``token`` and the partition. The seals of a partition are a chain: the next one's START is the last one's
``end``. Whoever writes ``[START, end)`` first stages its outputs, durable but not to be seen, and then
creates the seal, which fails when the name exists: **the seal is both the commit and the fence**. Only
then the outputs are published. After a crash between the two the next owner finds staged outputs that a
seal names, and publishes them: nothing is read again.

Taking a partition over adds an empty seal ``[tip, tip)`` and so takes away the one name under which
the former owner could have added its next seal; ``turn`` counts these. What is staged and no seal names
is litter of a dead owner and is removed.

This is rule 8 of the reliability rules with one difference: since a file system can rename, and an object
store can complete an upload later, what is sealed is finished by whoever comes next instead of being
written a second time.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from streamcore.batch import PartitionId
from streamcore.errors import Fenced, Permanent, Transient
from streamcore.sinks.storage import SEALS, Output, Staged, Storage


class Seal(NamedTuple):
    """One link of the chain; ``outputs`` are what it publishes."""

    start: int
    turn: int
    end: int
    rows: int
    outputs: tuple[Staged, ...]

    @property
    def name(self) -> str:
        return f"{self.start:020d}-{self.turn:06d}"

    @property
    def next_turn(self) -> int:
        """An owner's ranges all have one turn, which starts with its taking over."""
        return self.turn + 1 if self.end == self.start else self.turn


class SealChain:
    """The seals of one partition as one owner sees them. Blocking; call from a worker thread.

    ``position`` is where the next range starts. Raises Fenced when another owner was faster, and what the
    storage raises. After Transient the same call may be made again.
    """

    def __init__(
        self, storage: Storage, topology: str, sink: str, partition: PartitionId, owner: str
    ) -> None:
        identity = "\0".join((topology, sink, partition.topic_id, partition.topic))
        self.stream = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self._storage, self._partition = storage, partition
        self._shelf = storage.shelf(self.stream, partition.partition, owner)
        self._who = {"owner": owner, "token": uuid.uuid4().hex}
        """``owner`` is for people; the token tells this chain's seals from any other's."""
        self._turn = 0
        self._sealing: Seal | None = None
        """What is staged and may be sealed already: the next range, of a call that failed on its way."""
        self.position = 0

    def take_over(self, start: int) -> int:
        """Fence every former owner, finish what it sealed, return where to go on (at first: *start*)."""
        self._shelf.make()
        while True:
            last = self._last(start)
            self.position, self._turn = (last.end, last.next_turn) if last else (start, 0)
            with suppress(Fenced):  # somebody else is taking it over as well: the last one wins
                mark = Seal(self.position, self._turn, self.position, 0, ())
                self._create(mark)
                break
        self._turn = mark.next_turn
        self._finish_sealed(mark)
        return self.position

    def output_name(self, suffix: str) -> str:
        """The name of the next range's files: unique for good, and in the order of positions."""
        name = f"{self.position:020d}-{self._turn:06d}"
        return f"{self.stream}-{self._partition.partition:05d}-{name}{suffix}"

    def add(self, end: int, rows: int, outputs: Sequence[Output], crash_point: Callable[[str], None]) -> None:
        """Stage, seal and publish ``[position, end)``; tried again, with the same *end*."""
        seal = self._sealing
        if seal is None:
            seal = Seal(self.position, self._turn, end, rows, ())
            if self._shelf.has(seal.name):  # creating it decides; this saves the writing
                raise self._fenced(seal)
            self._sealing = seal = seal._replace(outputs=tuple(self._staged(seal, outputs)))
        assert seal.end == end, "a range that may be sealed is finished before the next one is cut"
        crash_point("files.before_seal")
        self._create(seal)
        crash_point("files.after_seal")
        self._shelf.publish(seal.outputs)
        crash_point("files.after_outputs")
        self.position, self._sealing = end, None

    def _staged(self, seal: Seal, outputs: Sequence[Output]) -> list[Staged]:
        try:
            return self._shelf.stage(seal.name, outputs)
        except (Permanent, Transient):
            # An heir has taken away what was staged so far. A server of objects may say so by closing the
            # connection under a part's body, which looks like any other broken connection.
            if self._shelf.has(seal.name):
                raise self._fenced(seal) from None
            raise

    def _create(self, seal: Seal) -> None:
        text: dict[str, object] = {
            "end": seal.end,
            "rows": seal.rows,
            "outputs": [output.path for output in seal.outputs],
            "receipts": [output.receipt for output in seal.outputs],
        }
        content = json.dumps({**text, **self._who, **self._partition._asdict()}).encode()
        if not self._shelf.create(seal.name, content):
            raise self._fenced(seal)

    def _fenced(self, seal: Seal) -> Fenced:
        return Fenced(
            f"another owner has taken {self._partition} over at position {seal.start}",
            where=self._place(seal.name),
            fix="this process must stop writing it",
        )

    def _place(self, name: str) -> str:
        return self._storage.at(f"{SEALS}/{self.stream}/{self._partition.partition:05d}/{name}")

    def _last(self, near: int) -> Seal | None:
        name = self._shelf.last(near)
        return None if name is None else self._read(name)

    def _read(self, name: str) -> Seal:
        text = self._shelf.read(name)
        try:
            start, turn = name.split("-")
            seal = json.loads(text)
            outputs = tuple(map(Staged, seal["outputs"], seal["receipts"]))
            return Seal(int(start), int(turn), int(seal["end"]), int(seal["rows"]), outputs)
        except (ValueError, KeyError, TypeError):
            raise Permanent(
                "this file is not a seal that streamcore wrote",
                where=self._place(name),
                fix="restore it, or move it away if it does not belong here",
            ) from None

    def _finish_sealed(self, mark: Seal) -> None:
        """Publish what a former owner sealed but did not publish, and remove what it never sealed.

        Only names before *mark* and the outputs that lost against it are touched: what comes later
        belongs to an owner that may already have taken over from this one.
        """
        waiting, published = self._shelf.waiting(), set[str]()
        for name in sorted({one.seal for one in waiting if one.seal < mark.name}):
            if not self._shelf.has(name):
                continue
            words = {one.word for one in waiting if one.seal == name}
            outputs = self._read(name).outputs
            mine = [output for output in outputs if output.word in words]
            self._shelf.publish(mine)
            published |= {output.word for output in mine}
        for one in waiting:
            if one.word in published:
                continue
            if one.seal < mark.name or (one.seal == mark.name and one.is_output):
                self._shelf.discard(one)
