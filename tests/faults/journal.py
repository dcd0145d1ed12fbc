"""The oracle: which rows were produced, kept outside of the system under test, and its verdict.

A producer writes a row down before it sends it (``intend``) and once more when the send was acknowledged
(``confirm``). A confirmed row must have its effect, exactly once, or be a dead letter; a row that was only
intended may have it; nothing else may. The file is append-only JSON lines and survives a killed producer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import orjson


class Row(NamedTuple):
    """A produced row: ``id`` is unique in the run; ``sequence`` grows for the rows of one ``key``.

    ``fate`` says whether it must be an "effect" or "dead" (or either: empty), ``digest`` what its bytes were.
    """

    id: str
    key: str
    sequence: int
    fate: str = ""
    digest: str = ""


def digest_of(value: bytes | None) -> str:
    """By these a dead letter is known: its row when its bytes are the original ones, otherwise nobody."""
    return hashlib.blake2b(value or b"", digest_size=16).hexdigest()


class Journal:
    """The writing side. Lines are flushed to the operating system at once: they outlive this process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def intend(self, rows: Iterable[Row]) -> None:
        """Write *rows* down; call it before they are sent."""
        self._file.write(b"".join(orjson.dumps({"row": tuple(row)}) + b"\n" for row in rows))

    def confirm(self, ids: Iterable[str]) -> None:
        """Write down that the rows *ids* were acknowledged."""
        self._file.write(orjson.dumps({"confirmed": list(ids)}) + b"\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


@dataclass
class Produced:
    """What a journal says: all intended rows by id, and the ids of the confirmed ones."""

    rows: dict[str, Row] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)

    def ids_of(self, values: Iterable[bytes | None]) -> list[str]:
        """The rows that had exactly these bytes; for bytes that no row had, an id that no row has."""
        known = {row.digest: row.id for row in self.rows.values()}
        digests = [digest_of(value) for value in values]
        return [known.get(digest, f"altered:{digest}") for digest in digests]


def read(path: Path) -> Produced:
    """Read a journal; a last line cut short by a kill is left out, any other damage is an error."""
    produced = Produced()
    for line in path.read_bytes().split(b"\n")[:-1]:
        entry = orjson.loads(line)
        if "row" in entry:
            row = Row(*entry["row"])
            produced.rows[row.id] = row
        else:
            produced.confirmed.update(entry["confirmed"])
    return produced


@dataclass(frozen=True)
class Verdict:
    """The ids that break a promise, by promise; ``str`` is one line for the table of runs."""

    lost: frozenset[str]
    doubled: frozenset[str]
    invented: frozenset[str]
    both: frozenset[str]
    misplaced: frozenset[str]
    disordered: frozenset[str]
    rows: int

    @property
    def holds(self) -> bool:
        """Whether every promise was kept. A run without a confirmed row proves nothing and does not hold."""
        return self.rows > 0 and not any(self._broken().values())

    def _broken(self) -> Mapping[str, frozenset[str]]:
        names = ("lost", "doubled", "invented", "both", "misplaced", "disordered")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        broken = [f"{name} {len(ids)} (e.g. {min(ids)})" for name, ids in self._broken().items() if ids]
        return f"{self.rows} rows: {', '.join(broken) or ('all kept' if self.rows else 'no row, no proof')}"


def judge(
    produced: Produced, effects: Iterable[str], dead: Iterable[str], *, ordered: bool = False
) -> Verdict:
    """Judge a sink's *effects* (ids, one a row found there) and the *dead* letters (ids, repeats folded).

    With *ordered* the effects stand in the order in which they took place, and the rows of each key must be
    in the order in which they were produced. Promises: ``lost`` confirmed but nowhere; ``doubled`` more than
    one effect; ``invented`` never produced; ``both`` effect and dead letter; ``misplaced`` not its fate;
    ``disordered`` after a later row of its key.
    """
    found = list(effects)
    times, refused = Counter(found), set(dead)
    return Verdict(
        lost=frozenset(produced.confirmed - times.keys() - refused),
        doubled=frozenset(name for name, count in times.items() if count > 1),
        invented=frozenset((times.keys() | refused) - produced.rows.keys()),
        both=frozenset(times.keys() & refused),
        misplaced=_of_fate(produced, times, "dead") | _of_fate(produced, refused, "effect"),
        disordered=_disordered(produced, found) if ordered else frozenset(),
        rows=len(produced.confirmed),
    )


def _of_fate(produced: Produced, ids: Iterable[str], fate: str) -> frozenset[str]:
    return frozenset(name for name in ids if name in produced.rows and produced.rows[name].fate == fate)


def _disordered(produced: Produced, effects: Iterable[str]) -> frozenset[str]:
    latest: dict[str, int] = {}
    late = set()
    for row in (produced.rows[name] for name in effects if name in produced.rows):
        if row.sequence < latest.get(row.key, row.sequence):
            late.add(row.id)
        latest[row.key] = max(row.sequence, latest.get(row.key, row.sequence))
    return frozenset(late)


def difference(
    what: str,
    wanted: Mapping[Hashable, object],
    found: Sequence[tuple[Hashable, object]],
    *,
    whole: bool = True,
) -> str:
    """What is wrong with *found*, in words; empty when nothing is."""
    times = Counter(key for key, _ in found)
    wrong = {
        "lost": wanted.keys() - times.keys() if whole else (),
        "doubled": [key for key, count in times.items() if count > 1],
        "invented": times.keys() - wanted.keys(),
        "altered": [
            (key, value, wanted[key]) for key, value in found if key in wanted and value != wanted[key]
        ],
    }
    told = [f"{name} {len(keys)} (e.g. {sorted(keys, key=repr)[0]})" for name, keys in wrong.items() if keys]
    return f"{len(wanted)} {what}: {', '.join(told)}" if told else ""


def dead_differ(doomed: set[str], dead: Iterable[str]) -> list[str]:
    """What is wrong with the *dead* letters when they should be *doomed*, in words."""
    found = set(dead)
    told = {"lost": doomed - found, "too many": found - doomed}
    return [f"dead letters {name}: {len(ids)} (e.g. {min(ids)})" for name, ids in told.items() if ids]
