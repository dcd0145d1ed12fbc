"""Tasks that ask: a pure task yields what it needs from outside, and goes on when it is told.

A generator of :class:`~streamcore.contracts.Asked` that gets rows and returns its result. Whoever drives a
task answers: the runtime with what it has fetched, a test with frames. The core does no I/O itself.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import polars as pl

from streamcore.batch import Chunk
from streamcore.contracts import Decoded, Decoder, Format, StepResult
from streamcore.errors import Permanent


class Reference(Protocol):
    """Where rows are looked up that may change: a file, a database. A frozen description, made without I/O
    but for what says its columns."""

    @property
    def name(self) -> str:
        """For people, without secrets; the test driver's references go by it."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that name a row; there is one row a key at most."""
        ...

    @property
    def types(self) -> pl.Schema:
        """All columns of a row, those of ``keys`` too."""
        ...

    @property
    def caching(self) -> Caching | None:
        """What of it a worker may remember; None: its reader knows better."""
        ...

    def reader(self, clock: Callable[[], float]) -> ReferenceReader:
        """A live reader, one a worker process and node. *clock* gives seconds since the epoch. No I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Caching:
    """How many ``rows`` are remembered, and for how many seconds; ``misses``: that a key has none."""

    rows: int = 100_000
    seconds: float = 60.0
    misses: float = 60.0


class ReferenceReader(Protocol):
    """The live part of a reference. Called from one event loop; calls may overlap.

    Any method may raise Transient (the caller asks again with back-off, and no row goes on meanwhile) or
    Permanent (the worker stops).
    """

    async def start(self) -> None:
        """Called before any row is read. BadConfig or Permanent, with the remedy, for what can't be asked."""
        ...

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows, in ``types``, of those *keys* that have one; *keys* are distinct, without nulls."""
        ...

    async def close(self) -> None:
        """Free connections; called once, also after errors."""
        ...


class Asked(NamedTuple):
    """A question of a task that can't go on without the answer: the rows of *keys* in *reference*.

    ``node`` asks; of a decoder's question it is the reference's name.
    """

    node: str
    reference: Reference
    keys: pl.DataFrame


@runtime_checkable
class AskingStep(Protocol):
    """A step that needs rows from outside. It is as pure as a :class:`Step`: it says of which keys, and who
    drives the task gives them."""

    @property
    def name(self) -> str: ...

    @property
    def reference(self) -> Reference: ...

    def output(self, columns: pl.Schema) -> pl.Schema:
        """As that of :class:`Step`."""
        ...

    def keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The distinct keys of *frame*, in the reference's names and types, without nulls."""
        ...

    def answered(self, frame: pl.DataFrame, rows: pl.DataFrame, stage: str) -> StepResult:
        """*frame* with the columns of *rows*, the answer to its :meth:`keys`."""
        ...


T = TypeVar("T")
Asking: TypeAlias = Generator[Asked, pl.DataFrame, T]
AskingEach: TypeAlias = Generator[Asked | T, pl.DataFrame, None]
"""The same of something that has several results: they come between the questions."""
Answer = Callable[[Asked], pl.DataFrame]


class AskingDecoder(abc.ABC):
    """A decoder that needs rows from outside, or one around another that may: a :class:`Decoder` as well."""

    @abc.abstractmethod
    def asking(self, chunk: Chunk) -> Asking[Decoded]:
        """As :meth:`Decoder.decode`. The same chunk with the same answers gives the same result."""

    def decode(self, chunk: Chunk) -> Decoded:
        """The result of :meth:`asking` where nobody answers: Permanent when it does ask."""
        return answered(self.asking(chunk), nobody)


def decoding(decoder: Decoder, chunk: Chunk) -> Asking[Decoded]:
    """What *decoder*, which may be an asking one, makes of *chunk*."""
    if isinstance(decoder, AskingDecoder):
        return (yield from decoder.asking(chunk))
    return decoder.decode(chunk)


@runtime_checkable
class AskingFormat(Format, Protocol):
    """A format whose decoders may ask, and whose writers must be made known before they write."""

    @property
    def reference(self) -> Reference | None:
        """What the decoders ask; None when these do not."""
        ...

    async def prepared(self, topic: str, columns: pl.Schema) -> Format:
        """The format that writes rows with *columns* to *topic*. Called by whoever writes, before it does.

        Transient: to be called again; Permanent or BadConfig: *columns* can't be written there.
        """
        ...


async def prepared(form: Format, topic: str, columns: pl.Schema) -> Format:
    """*form*, which may be an asking one, as it writes rows with *columns* to *topic*."""
    return await form.prepared(topic, columns) if isinstance(form, AskingFormat) else form


def answered(asking: Asking[T], answer: Answer) -> T:
    """The result of *asking*, each of whose questions *answer* answers."""
    try:
        asked = next(asking)
        while True:
            asked = asking.send(answer(asked))
    except StopIteration as done:
        result: T = done.value
        return result


def answered_each(asking: AskingEach[T], answer: Answer) -> Iterator[T]:
    """The results of *asking*, each of whose questions *answer* answers."""
    try:
        made = next(asking)
        while True:
            if isinstance(made, Asked):
                made = asking.send(answer(made))
            else:
                yield made
                made = next(asking)
    except StopIteration:
        return


def nothing(asked: Asked) -> pl.DataFrame:
    """The answer that no key has a row: where what comes out does not matter."""
    return pl.DataFrame(schema=asked.reference.types)


def nobody(asked: Asked) -> pl.DataFrame:
    """The answer where no question is expected: Permanent."""
    raise Permanent(f"nothing here can look up rows of {asked.reference.name!r}", where=asked.node)
