"""What is asked of a store for the quality of datasets, over time.

One suite for all: tests/conformance/test_measurements.py.

**Who calls.** Whoever has looked at a dataset adds what was found; reports and commands read it. Each method
is one transaction. A measurement is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Measurement:
    """One look at a dataset. ``found``: its metrics and pass rates, as JSON; no value of a row.

    ``level`` is how bad it was. A ``run_id`` names the look: one that is there already is not added again.
    """

    dataset: str
    at_us: int
    level: str
    rows: int
    refused: int
    run_id: str | None = None
    found: Mapping[str, JsonValue] = field(default_factory=dict)

    def shares(self) -> dict[str, float]:
        """The metrics of the dataset as a whole, each from 0 to 1."""
        metrics = cast("Sequence[Mapping[str, JsonValue]]", self.found.get("metrics", ()))
        whole = [metric for metric in metrics if metric.get("column") is None]
        return {str(metric["metric"]): float(cast("float", metric["value"])) for metric in whole}


class Measurements(Protocol):
    """Looks at datasets, and of each dataset the profile (JSON) that drift is measured from."""

    async def add(self, one: Measurement) -> None:
        """Keep *one*. Two at once of one dataset are both kept."""

    async def last(self, dataset: str, count: int) -> list[Measurement]:
        """The *count* that were added last, oldest first."""

    async def datasets(self) -> Sequence[Measurement]:
        """Of each dataset the newest one, by name."""

    async def keep_baseline(self, dataset: str, profile: str, now: int) -> None:
        """Make *profile* the baseline, in place of the one before."""

    async def baseline(self, dataset: str) -> str | None:
        """The baseline, if it has one."""
