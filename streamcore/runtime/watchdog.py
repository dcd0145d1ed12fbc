"""Judging a worker by its progress: a partition with records waiting that does not move ends it.

Consumers that live but do nothing are the fault that operators of Faust fear most. So liveness is
not that tasks run, but that positions move; what does not move names its cause and stops the
process with a non-zero status, and its supervisor starts it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamcore.batch import PartitionId
from streamcore.errors import Permanent
from streamcore.observability.metrics import Metrics
from streamcore.runtime.pipeline import Pipeline

_ENDS = 500


@dataclass(slots=True)
class _Seen:
    processed: int
    confirmed: int
    moved: float
    confirmed_moved: float
    ends: list[tuple[float, int]] = field(default_factory=list)
    """(when, end): the partition's end and when it was seen first, of those that are not confirmed."""

    def see_end(self, end: int, now: float) -> None:
        if end > (self.ends[-1][1] if self.ends else self.confirmed):
            self.ends.append((now, end))
        if len(self.ends) > _ENDS:  # thinner: of two neighbours the older time and the later end
            self.ends = [
                (old[0], new[1]) for old, new in zip(self.ends[::2], self.ends[1::2], strict=False)
            ] + (self.ends[-1:] if len(self.ends) % 2 else [])
        while self.ends and self.ends[0][1] <= self.confirmed:
            self.ends.pop(0)


class Watchdog:
    """Looks at every owned partition; *end_of* gives its end offset, or None while it is unknown.

    *timeout* is in seconds, *clock* gives monotonic seconds, *wall* seconds since the epoch.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: Metrics,
        end_of: Callable[[PartitionId], int | None],
        *,
        timeout: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._pipeline, self._metrics, self._end_of = pipeline, metrics, end_of
        self._timeout, self._clock, self._wall = timeout, clock, wall
        self._seen: dict[PartitionId, _Seen] = {}
        self.stalled: str | None = None

    def look(self) -> None:
        """Measure all partitions. Permanent when one of them, or a sink, has not moved for too long."""
        now = self._clock()
        ledger = self._pipeline.ledger
        self._metrics.unconfirmed_bytes.labels(self._pipeline.graph.name).set(ledger.unconfirmed_bytes)
        positions = self._pipeline.owned()
        for source in self._seen.keys() - positions.keys():
            del self._seen[source]
            self._metrics.forget_partition(self._pipeline.graph.name, source.topic, source.partition)
        stuck = [source for source, confirmed in positions.items() if self._is_stuck(source, confirmed, now)]
        if stuck:
            self._stop(f"{', '.join(map(str, stuck))} did not move", self._cause(stuck))
        for sink, runner in self._pipeline.runners.items():
            if runner.busy_since is not None and now - runner.busy_since > self._timeout:
                self._stop(f"sink {sink!r} did not return from a call", runner.last_error or "it hangs")

    def _cause(self, stuck: list[PartitionId]) -> str:
        causes = self._pipeline.causes(stuck)
        return f"{causes}; {self.recovering}" if self.recovering else causes

    def _is_stuck(self, source: PartitionId, confirmed: int, now: float) -> bool:
        processed, end = self._pipeline.processed.get(source, confirmed), self._end_of(source)
        seen = self._seen.setdefault(source, _Seen(processed, confirmed, now, now))
        if confirmed != seen.confirmed:
            seen.confirmed_moved = now
        if (processed, confirmed) != (seen.processed, seen.confirmed):
            seen.processed, seen.confirmed, seen.moved = processed, confirmed, now
        waiting = 0 if end is None else max(0, end - processed)
        if not waiting:
            seen.moved = now
        if end is None or confirmed >= end:
            seen.confirmed_moved = now
        seen.see_end(end or 0, now)
        self._show(source, seen, 0 if end is None else max(0, end - confirmed), now)
        return waiting > 0 and now - seen.moved > self._timeout

    def _show(self, source: PartitionId, seen: _Seen, lag: int, now: float) -> None:
        labels = (self._pipeline.graph.name, source.topic, str(source.partition))
        metrics = self._metrics
        metrics.lag_rows.labels(*labels).set(lag)
        metrics.lag_seconds.labels(*labels).set(now - seen.ends[0][0] if seen.ends else 0)
        metrics.recovery_records_left.labels(*labels).set(self._recovery_left(source))
        metrics.commit_age_seconds.labels(*labels).set(now - seen.confirmed_moved if lag else 0)
        metrics.last_progress_timestamp_seconds.labels(*labels).set(self._wall() - (now - seen.moved))

    @property
    def recovering(self) -> str | None:
        """Which states are not yet what they were, and how long that takes; None when all are."""
        texts = [kept.recovery.text for kept in self._pipeline.kept.values() if kept.recovery is not None]
        return "; ".join(text for text in texts if text) or None

    def _recovery_left(self, source: PartitionId) -> int:
        kept = self._pipeline.kept.get(source)
        return 0 if kept is None or kept.recovery is None else kept.recovery.records_left

    def _stop(self, what: str, cause: str) -> None:
        self.stalled = f"{what} for {self._timeout:g} s: {cause}"
        raise Permanent(self.stalled, fix="the cause is above; the worker ends so that it can start anew")
