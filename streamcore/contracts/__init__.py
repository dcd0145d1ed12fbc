"""The contracts between the parts: who calls what, when, and what each error makes the caller do.

Each contract is a *description* (frozen, made by the user's module, no I/O) and, where something
must be kept open, a *live* part that the description builds. The conformance suites in
:mod:`streamcore.testing` hold one named test for each sentence here.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import polars as pl
import pyarrow as pa

from streamcore.batch import Batch, Chunk, PartitionId, Rejects
from streamcore.contracts.logs import Header as Header
from streamcore.contracts.logs import Lane as Lane
from streamcore.contracts.logs import Log as Log
from streamcore.contracts.logs import OwnedAppends as OwnedAppends
from streamcore.contracts.logs import Records as Records
from streamcore.contracts.logs import Transactions as Transactions
from streamcore.contracts.sources import BoundedSource as BoundedSource
from streamcore.contracts.sources import SourceAbilities as SourceAbilities
from streamcore.contracts.sources import Split as Split
from streamcore.contracts.sources import SplitReader as SplitReader
from streamcore.schema import StreamSchema

# ---------------------------------------------------------------- formats


@dataclass(frozen=True, slots=True)
class Decoded:
    """``frame``: exactly the schema's columns and then the hidden ones, in the records' order.

    Each record of the chunk is in ``frame`` (one or more rows) or in ``rejects`` (stage "decode"),
    never in both, never in neither.
    """

    frame: pl.DataFrame
    rejects: Rejects


class Decoder(Protocol):
    """Bytes to columns for one stream; pure: the same chunk gives the same result, however it is cut."""

    def decode(self, chunk: Chunk) -> Decoded:
        """Called once a chunk. Never raises for what the bytes hold: bad records become rejects."""
        ...


class Format(Protocol):
    """How a topic's values are written, e.g. JSON. Frozen."""

    @property
    def name(self) -> str: ...

    def decoder(self, schema: StreamSchema) -> Decoder:
        """A decoder to *schema*; BadConfig when the format can't hold one of its types."""
        ...

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """One value a row of *frame* (user columns only), shape (rows,)."""
        ...


# ---------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class StepResult:
    """``frame``: the surviving rows, hidden columns kept. ``counts``: named counters to add up."""

    frame: pl.DataFrame
    rejects: Rejects = field(default_factory=Rejects)
    counts: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Step(Protocol):
    """One stateless step of a topology: a pure function of frames, deterministic, row by row.

    The cut law holds: applying it to two halves and joining equals applying it to the whole. A step
    knows no clock, no Kafka, no asyncio. Frozen.
    """

    @property
    def name(self) -> str:
        """What the graph shows, e.g. ``filter age >= 18``."""
        ...

    def output(self, columns: pl.Schema) -> pl.Schema:
        """The user columns after this step. Called once at load with the columns before it.

        BadConfig (without ``where``; the topology adds it) for unknown columns and type clashes.
        """
        ...

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Called for each batch with user and hidden columns; *stage* names this node in rejects.

        A row's own failure is a reject; an exception is a bug of the step and stops the worker.
        """
        ...


# ---------------------------------------------------------------- sinks


class FlushReason(enum.Enum):
    """Why a writer is asked to flush."""

    IDLE = "idle"  # nothing more is waiting, or much was written: confirm what is cheap to confirm
    TIMER = "timer"  # nothing came for `timer_seconds`: writers that roll by age look at the clock
    PRESSURE = "pressure"  # too many unconfirmed bytes: confirm as much as possible
    REVOKE = "revoke"  # partitions are about to leave
    END = "end"  # the bounded stream is over, or the worker stops: confirm everything


@dataclass(frozen=True, slots=True)
class SinkAbilities:
    """What a sink can do, as data. ``key``: the columns by which it updates; none: the stream's own."""

    append: bool = True
    upsert: bool = False
    delete: bool = False
    retract: bool = False
    transactional: bool = False
    stores_positions: bool = False
    """False: the positions are the group's commit, and the sink is at-least-once (topics, agents)."""
    key: tuple[str, ...] = ()
    timer_seconds: float = 1.0
    """It is flushed so often at least: with TIMER while nothing comes, else with IDLE."""
    server_refuses: bool = False
    """A row may be refused for what the server has or allows at the moment, not for itself alone. Then only
    the owner of a partition can make dead letters of its rows (:meth:`Log.owned`): a former one would send
    those of rows that its heir has written."""


Refuse = Callable[[Batch, Rejects], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a live writer is given.

    ``refuse(batch, rejects)`` makes rows of *batch* dead letters of this sink; it returns when they
    are durable, and must be awaited before a position that passes them is confirmed. ``clock``
    gives seconds since the epoch. ``owner`` names this process in fences. ``memory_limit`` (bytes) is
    how much a writer may hold unconfirmed. ``crash_point(name)`` marks a place where tests kill.
    """

    topology: str
    sink: str
    columns: pl.Schema
    key: tuple[str, ...]
    event_time: str | None
    clock: Callable[[], float]
    owner: str
    refuse: Refuse
    memory_limit: int
    crash_point: Callable[[str], None]
    log: Log


@runtime_checkable
class Sink(Protocol):
    """Where rows go: a frozen description in the user's module."""

    @property
    def name(self) -> str:
        """Stable and unique in the topology: positions are stored under it. From ``name=`` or the target."""
        ...

    @property
    def abilities(self) -> SinkAbilities: ...

    def check(self, columns: pl.Schema) -> None:
        """Called at load. BadConfig when *columns* can't be written (missing key column, type)."""
        ...

    def writer(self, context: SinkContext) -> SinkWriter:
        """A live writer, one a worker process. No I/O here."""
        ...


class SinkWriter(Protocol):
    """The live part of a sink.

    All methods are called from one event loop and never two at a time. Any method may raise
    Transient (the caller calls it again with back-off; a repeated ``write`` passes the same batch),
    Fenced or Permanent (the worker stops). After an error nothing may be confirmed that is not durable.
    """

    async def start(self) -> None:
        """Connect and check the target before any row is read: Permanent or BadConfig with the remedy."""
        ...

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Take *partitions* over and return where to go on, for each of them.

        The value given is the position to begin at when this sink has none of its own (it is then
        stored). From the moment this returns, a former owner can't write these partitions any more;
        what one had made certain but not finished may be finished here.
        """
        ...

    async def write(self, batch: Batch) -> None:
        """Take a batch of one source over. Batches of a partition come in order, each starting where
        the last one ended, the first one where ``open`` said. May write, or hold it until ``flush``.
        """
        ...

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """Return, for every partition that has one, the position up to which everything is durable.

        With REVOKE, END and PRESSURE everything written must be durable on return, and ranges without
        rows are confirmed too.
        """
        ...

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions* and what is held for them (they were flushed if that was possible)."""
        ...

    async def close(self) -> None:
        """Free connections; called once, also after errors; does not flush."""
        ...


@runtime_checkable
class WritesTopic(Protocol):
    """A sink that may write to the broker of the worker: a topology must not read what it writes."""

    @property
    def own_topic(self) -> str | None:
        """The topic of that broker; None when it is of another one."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A sink that makes what is missing at its target when it starts: ``streamcore replay --dry-run``."""

    def plan(self, columns: pl.Schema) -> Sequence[str]:
        """The statements that do it, as people give them to the system; no I/O.

        What is there already is left as it is, and of what has to be asked for only that which was.
        """
        ...


@runtime_checkable
class Reachable(Protocol):
    """A sink's writer that can try its target: ``streamcore connect test --sink``."""

    async def reach(self) -> None:
        """Called instead of ``start``, before ``close``: reach the target, log in, look whether it is there.

        Nothing is made or written.

        Raises as ``start`` does.
        """
        ...
