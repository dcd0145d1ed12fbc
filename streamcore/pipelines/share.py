"""Which runs an orchestrator takes up first, when several share them by a consumer group."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from streamcore.transport.partitioning import partition_of


class Share:
    """The runs whose keys belong to the partitions that this process has of a topic with ``partitions``.

    While it is not known how many partitions there are, no run is its own.
    """

    def __init__(self) -> None:
        self.partitions = 0
        self._own: set[int] = set()

    def take(self, partitions: Iterable[int]) -> None:
        """The group gave these to this process."""
        self._own.update(partitions)

    def give(self, partitions: Iterable[int]) -> None:
        """They are another one's now. Runs that are being executed stay here."""
        self._own.difference_update(partitions)

    def has(self, run_ids: Iterable[str]) -> set[str]:
        """Those of *run_ids* that are its own."""
        ids = list(run_ids)
        if not (ids and self._own and self.partitions):
            return set()
        places = partition_of(pa.array([id.encode() for id in ids], pa.binary()), self.partitions, 0)
        return {id for id, place in zip(ids, places, strict=True) if int(place) in self._own}
