"""The journal of fault runs, and what follows from it: a table and a bound."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson


@dataclass(frozen=True)
class Record:
    """One run; ``invalid`` says why it proves nothing."""

    kind: str
    seed: int
    commit: str
    seconds: float
    invalid: str = ""
    failures: Sequence[str] = ()
    restarts: int = 0
    causes: Sequence[str] = ()
    kills: int = 0
    rows: int = 0
    recovery: Sequence[float] = field(default_factory=tuple)


def append(path: Path, record: Record) -> None:
    """Add *record* to the journal at *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(orjson.dumps(asdict(record)) + b"\n")


def read(path: Path) -> list[Record]:
    """All runs of the journal; none when it does not exist. A last line cut short is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [Record(**orjson.loads(line)) for line in lines]


HEADINGS = (
    "kind", "runs", "failures", "invalid", "kills", "restarts", "rows", "recovery median s", "recovery max s",
)  # fmt: skip


def table(records: Iterable[Record], kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """A line a kind, and one of all; invalid runs count as no runs."""
    found = list(records)
    lines = [_line(kind, [r for r in found if r.kind == kind]) for kind in kinds]
    return [*lines, _line("all", found)]


def _line(name: str, records: Sequence[Record]) -> tuple[str, ...]:
    valid = [r for r in records if not r.invalid]
    seconds = [s for r in valid for s in r.recovery]
    numbers = (
        len(valid),
        sum(bool(r.failures) for r in valid),
        len(records) - len(valid),
        sum(r.kills for r in valid),
        sum(r.restarts for r in valid),
        sum(r.rows for r in valid),
    )
    times = (f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("", "")
    return (name, *map(str, numbers), *times)


def by_pipeline(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """The same, a line a pipeline: what is before the colon of a kind."""
    whole = [replace(r, kind=r.kind.partition(":")[0]) for r in records]
    return table(whole, list(dict.fromkeys(r.kind for r in whole)))


def bound(records: Iterable[Record]) -> str:
    """What the runs prove: with no failure in n runs, by the rule of three, a rate below 3/n (95 %)."""
    valid = [r for r in records if not r.invalid]
    failed = sum(bool(r.failures) for r in valid)
    if failed:
        return f"{failed} of {len(valid)} runs failed."
    if not valid:
        return "No run yet."
    return (
        f"No failure in {len(valid)} runs: with 95 % confidence the rate of failing runs is below "
        f"{min(1.0, 3 / len(valid)):.2%} (rule of three)."
    )


def short(records: Iterable[Record], kinds: Sequence[str], wanted: int = 5) -> str:
    """Which *kinds* have fewer valid runs than are *wanted*, each with how many; how many have none."""
    counts = Counter(r.kind for r in records if not r.invalid)
    few = [f"{kind} ({counts[kind]})" for kind in kinds if 0 < counts[kind] < wanted]
    none = sum(not counts[kind] for kind in kinds)
    return f"Fewer than {wanted} valid runs: {', '.join(few) or 'none'}. Kinds without a run here: {none}."


def commits(records: Iterable[Record]) -> str:
    """On which commits the valid runs were made, and how many on each, in the order of the journal."""
    counts = Counter(r.commit for r in records if not r.invalid)
    return (
        f"Commits: {', '.join(f'{commit} ({count})' for commit, count in counts.items())}." if counts else ""
    )


def plain(lines: Sequence[tuple[str, ...]]) -> str:
    """The table for a terminal."""
    widths = [max(len(line[i]) for line in [HEADINGS, *lines]) for i in range(len(HEADINGS))]
    rows = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [HEADINGS, *lines]
    ]
    return "\n".join(rows)


def markdown(lines: Sequence[tuple[str, ...]], note: str) -> str:
    """The table and the bound for a page of the documentation."""
    rule = "|" + "|".join(["---"] + ["---:"] * (len(HEADINGS) - 1)) + "|"
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(HEADINGS) + " |", rule, *rows, "", note, ""])
