"""The table of metrics is the one place where names, labels and live metrics come from."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streamcore.observability.metrics import Metrics, table


def _samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_every_row_of_the_table_is_a_sample_with_these_labels() -> None:
    metrics = Metrics()
    live = [value for value in vars(metrics).values() if hasattr(value, "labels")]
    for metric in live:
        if metric._labelnames:
            metric.labels(*metric._labelnames)
    metrics.worker.info({"version": "1"})
    samples = _samples(metrics)
    assert len(live) == len(table())
    for row in table():
        named = {labels[: len(row.labels)] for labels in samples[row.name]}
        assert row.labels in named or row.kind == "info"


def test_names_follow_prometheus_conventions() -> None:
    names = [row.name for row in table()]
    assert len(set(names)) == len(names)
    for row in table():
        assert row.name.startswith("streamcore_")
        assert row.help.endswith(".")
        assert (row.kind == "counter") == row.name.endswith("_total")


def test_the_exposition_is_read_by_prometheus_own_parser() -> None:
    metrics = Metrics()
    metrics.lag_rows.labels("t", "s", "0").set(5)
    families = {family.name for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert {"streamcore_lag_rows", "process_resident_memory_bytes"} <= families


def test_two_metrics_in_one_process_do_not_share_counts() -> None:
    first, second = Metrics(), Metrics()
    first.rows_in.labels("t", "s").inc(7)
    assert _samples(first)["streamcore_rows_in_total"] == {("t", "s"): 7.0}
    assert "streamcore_rows_in_total" not in _samples(second)


def test_the_given_registry_is_used() -> None:
    registry = CollectorRegistry()
    Metrics(registry).sink_retries.labels("t", "out").inc()
    assert registry.get_sample_value("streamcore_sink_retries_total", {"topology": "t", "sink": "out"}) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_forgotten_partition_leaves_no_gauge(known: bool) -> None:
    metrics = Metrics()
    metrics.lag_rows.labels("t", "s", "1").set(5)
    if known:
        metrics.lag_rows.labels("t", "s", "0").set(9)
    metrics.forget_partition("t", "s", 0)
    assert _samples(metrics)["streamcore_lag_rows"] == {("t", "s", "1"): 5.0}
