"""What passed through a pipeline since its start: for the progress display, and for the metrics."""

from __future__ import annotations

from streamcore.batch import Chunk, Rejects
from streamcore.observability.metrics import Metrics
from streamcore.passage import DECODE, LATE, Outcome
from streamcore.progress import Rejected


class Counters:
    """Counts of one topology; what they mean is said by :class:`streamcore.progress.Progress`."""

    def __init__(self, topology: str, metrics: Metrics) -> None:
        self._topology, self._metrics = topology, metrics
        self.rows_in = 0
        self.bytes_in = 0
        self.rejected: dict[Rejected, int] = {}
        self.rules: dict[str, int] = {}
        self.late: dict[str, int] = {}

    def read(self, stream: str, chunk: Chunk, outcome: Outcome) -> None:
        """*chunk* of *stream* was read, and became *outcome*."""
        self.rows_in += outcome.records
        self.bytes_in += chunk.nbytes
        labels = (self._topology, stream)
        self._metrics.rows_in.labels(*labels).inc(outcome.records)
        self._metrics.bytes_in.labels(*labels).inc(chunk.nbytes)
        self._metrics.batch_rows.labels(*labels).observe(outcome.records)
        if DECODE in outcome.seconds:  # a redriven row's is not measured
            self._metrics.decode_seconds.labels(*labels).observe(outcome.seconds[DECODE])
        self.passed(outcome)

    def passed(self, outcome: Outcome) -> None:
        """*outcome* has been through its steps."""
        for stage, seconds in outcome.seconds.items():
            if stage != DECODE:
                self._metrics.step_seconds.labels(self._topology, stage).observe(seconds)
        for (node, counter), number in outcome.counts.items():
            if counter == LATE:
                self.late[node] = self.late.get(node, 0) + number
                self._metrics.rows_late.labels(self._topology, node).inc(number)
            elif counter.startswith("rule:"):
                rule = counter.removeprefix("rule:").removesuffix(":failed")
                self.rules[rule] = self.rules.get(rule, 0) + number
                self._metrics.rule_failures.labels(self._topology, rule).inc(number)

    def refused(self, rejects: Rejects) -> None:
        """*rejects* have become dead letters."""
        for stage, code, number in rejects.frame.group_by("stage", "code").len().iter_rows():
            key = Rejected(stage, code)
            self.rejected[key] = self.rejected.get(key, 0) + number
            self._metrics.rows_rejected.labels(self._topology, stage, code).inc(number)
