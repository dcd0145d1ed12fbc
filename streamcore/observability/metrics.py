"""All metrics of streamcore, declared once: the body of :class:`Metrics` is the table.

The runtime holds one ``Metrics`` a process and wraps the components with it; a component knows nothing of it.
Counters count from the start of the process, times are seconds, and every name begins with ``streamcore_``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, overload

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)


@dataclass(frozen=True)
class Row:
    """One line of the table of metrics; ``name`` is what queries use (``…_total``, ``…_bucket``)."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


class _Declared(Generic[MetricT]):
    """A metric as the class body declares it; an instance of the class holds the live one."""

    def __init__(
        self,
        kind: type[MetricT],
        name: str,
        text: str,
        *labels: str,
        buckets: tuple[float, ...] | None = None,
    ) -> None:
        self._kind: type[MetricT] = kind
        self._name = f"streamcore_{name}"
        self._help = text
        self._labels = labels
        self._options: dict[str, Any] = {} if buckets is None else {"buckets": buckets}

    def build(self, registry: CollectorRegistry) -> MetricT:
        metric = self._kind(self._name, self._help, self._labels, registry=registry, **self._options)
        if isinstance(metric, Counter | Histogram):  # a gauge's are removed when a partition leaves
            # Looked up some ten times a chunk, which is felt where its rows are few.
            metric.__dict__["labels"] = cache(metric.labels)
        return metric

    def row(self) -> Row:
        suffix = {"Counter": "_total", "Histogram": "_bucket", "Info": "_info"}.get(self._kind.__name__, "")
        return Row(self._name + suffix, self._kind.__name__.lower(), self._help, self._labels)

    @overload
    def __get__(self, instance: None, owner: type[Metrics]) -> _Declared[MetricT]: ...
    @overload
    def __get__(self, instance: Metrics, owner: type[Metrics]) -> MetricT: ...
    def __get__(self, instance: Metrics | None, owner: type[Metrics]) -> _Declared[MetricT] | MetricT:
        # The live metric lies in the instance's __dict__ and wins; only the class itself comes here.
        return self


class Metrics:
    """The live metrics of one process, registered in *registry* (one of its own when None).

    Use as ``metrics.rows_in.labels(topology, stream).inc(rows)``, once a batch, never once a row.
    """

    worker = _Declared(Info, "worker", "Version, topology and owner name of this worker.")
    rows_in = _Declared(Counter, "rows_in", "Rows decoded from a stream.", "topology", "stream")
    bytes_in = _Declared(
        Counter, "bytes_in", "Bytes of the records read from a stream.", "topology", "stream"
    )
    rows_fed = _Declared(
        Counter,
        "rows_fed",
        "Rows of an unbounded source that are in the stream's topic.",
        "topology",
        "stream",
    )
    rows_out = _Declared(Counter, "rows_out", "Rows that a sink has confirmed.", "topology", "sink")
    rows_rejected = _Declared(
        Counter, "rows_rejected", "Rows that became dead letters.", "topology", "stage", "code"
    )
    rule_failures = _Declared(
        Counter, "rule_failures", "Rows that failed a validation rule.", "topology", "rule"
    )
    rows_late = _Declared(Counter, "rows_late", "Rows too late for their window.", "topology", "window")
    batch_rows = _Declared(
        Histogram, "batch_rows", "Rows of a decoded batch.", "topology", "stream", buckets=_ROWS
    )
    decode_seconds = _Declared(
        Histogram, "decode_seconds", "Time to decode a chunk.", "topology", "stream", buckets=_SECONDS
    )
    step_seconds = _Declared(
        Histogram, "step_seconds", "Time of a step for a batch.", "topology", "step", buckets=_SECONDS
    )
    sink_seconds = _Declared(
        Histogram,
        "sink_seconds",
        "Time of a sink's operation (open, write, flush), retries left out.",
        "topology",
        "sink",
        "operation",
        buckets=_SECONDS,
    )
    sink_retries = _Declared(Counter, "sink_retries", "Operations of a sink tried again.", "topology", "sink")
    lookup_keys = _Declared(
        Counter,
        "lookup_keys",
        "Keys that batches asked a reference for, by answer: remembered or fetched.",
        "topology",
        "lookup",
        "answer",
    )
    lookup_retries = _Declared(
        Counter, "lookup_retries", "Questions to a reference that were asked again.", "topology", "lookup"
    )
    unconfirmed_bytes = _Declared(
        Gauge, "unconfirmed_bytes", "Bytes read and not yet confirmed by every sink.", "topology"
    )
    lag_rows = _Declared(
        Gauge, "lag_rows", "Records behind the end of a partition.", "topology", "stream", "partition"
    )
    lag_seconds = _Declared(
        Gauge,
        "lag_seconds",
        "Age of the oldest record of a partition that is not yet committed; 0 at its end.",
        "topology",
        "stream",
        "partition",
    )
    recovery_records_left = _Declared(
        Gauge,
        "recovery_records_left",
        "Records of a log to be read until the state of its partition is what it was; 0 when it is.",
        "topology",
        "stream",
        "partition",
    )
    standby_records_behind = _Declared(
        Gauge,
        "standby_records_behind",
        "Records of a log that the group has committed and a standby of its state here has not read yet.",
        "topology",
        "stream",
        "partition",
    )
    commit_age_seconds = _Declared(
        Gauge,
        "commit_age_seconds",
        "Time since a partition's position was last committed; 0 when nothing is to be committed.",
        "topology",
        "stream",
        "partition",
    )
    last_progress_timestamp_seconds = _Declared(
        Gauge,
        "last_progress_timestamp_seconds",
        "When a partition's position last moved, or was found at its end (seconds since 1970).",
        "topology",
        "stream",
        "partition",
    )

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for name, declared in _declarations():
            self.__dict__[name] = declared.build(self.registry)

    def forget_partition(self, topology: str, stream: str, partition: int) -> None:
        """Drop the gauges of a partition that another worker has now, or its last lag would stay for ever."""
        labels = (topology, stream, str(partition))
        for gauge in (
            self.lag_rows,
            self.lag_seconds,
            self.recovery_records_left,
            self.commit_age_seconds,
            self.last_progress_timestamp_seconds,
        ):
            gauge.remove(*labels)

    def tell_standbys(self, topology: str, behind: Mapping[tuple[str, int], int]) -> None:
        """These standbys are here, by topic and partition, and no others."""
        self.standby_records_behind.clear()
        for (stream, partition), records in behind.items():
            self.standby_records_behind.labels(topology, stream, str(partition)).set(records)

    def exposition(self) -> bytes:
        """All samples in Prometheus' text format."""
        return generate_latest(self.registry)


def _declarations() -> list[tuple[str, _Declared[MetricWrapperBase]]]:
    return [(name, value) for name, value in vars(Metrics).items() if isinstance(value, _Declared)]


def table() -> list[Row]:
    """The table of all metrics, for the docs and for checking the alerts."""
    return [declared.row() for _, declared in _declarations()]
