"""Why a partition may not move, for people."""

from __future__ import annotations

from collections.abc import Mapping


def causes_of(appending: str | None, lookups: Mapping[str, str], sinks: Mapping[str, str | None]) -> str:
    """In a few words, with the last errors of *appending* dead letters and of *lookups*.

    *sinks*: the last errors of those that were given rows and have not confirmed them. Where there is
    nothing of all that, nothing arrives.
    """
    found = [f"dead letters: {appending}"] if appending else []
    found += [f"lookup {node!r}: {error}" for node, error in lookups.items()]
    for sink, error in sinks.items():
        found.append(f"sink {sink!r}: {error}" if error else f"sink {sink!r} has not confirmed")
    return "; ".join(found) or "no record arrives from the broker"
