"""``key=`` is checked on the first rows of a partition, and what does not fit is said once."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import PartitionId
from streamcore.errors import BadConfig
from streamcore.runtime.keying import KeyCheck, misplaced
from streamcore.runtime.options import streams_by_topic
from streamcore.sinks.topic_records import record_keys
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.partitioning import partition_of
from tests.unit.topology.collecting import Collect

ROWS = pl.DataFrame({"id": range(100), "name": [None if i % 10 == 0 else f"n{i}" for i in range(100)]})


class Row(sc.Event):
    id: int
    name: str | None


def topology(key: str | tuple[str, ...] = "id") -> sc.Topology:
    made = sc.Topology("t")
    made.stream("rows", Row, key=key, topic="keyed").to(Collect("out"))
    return made


def of_partition(partition: int, key: str = "id") -> pl.DataFrame:
    return ROWS.filter(pl.Series(partition_of(record_keys(ROWS, [key]), 4, partition) == partition))


def test_rows_where_murmur2_puts_them_are_no_misplaced_ones() -> None:
    for partition in range(4):
        assert misplaced(of_partition(partition), ("id",), partition, 4) == 0
        assert misplaced(of_partition(partition, "name"), ("name",), partition, 4) == 0  # nulls lie anywhere


def test_rows_of_other_partitions_are_counted_and_one_partition_holds_all() -> None:
    here = of_partition(2).height
    assert misplaced(ROWS, ("id",), 2, 4) == 100 - here
    assert misplaced(ROWS, ("id",), 0, 1) == 0


@pytest.mark.parametrize(("key", "topic", "said"), [("id", "keyed", 1), ((), "keyed", 0), ("id", "file", 0)])
async def test_a_topic_with_another_partitioning_is_named_once(
    key: str | tuple[str, ...], topic: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker.open("embedded://keying")
    broker.create("keyed", 4)
    check = KeyCheck(topology(key).freeze(), EmbeddedLog(broker))
    with caplog.at_level(logging.WARNING):
        for partition in np.arange(4).tolist() * 2:
            await check.look("rows", PartitionId(topic, partition, "id"), lambda: ROWS)
    broker.close()
    assert len(caplog.records) == said
    if said:
        assert "topic keyed is not partitioned by key=id of stream 'rows'" in caplog.text
        assert "repartition" in caplog.text


def test_two_streams_of_one_topic_are_refused_since_one_of_them_would_get_nothing() -> None:
    twice = topology()
    twice.stream("others", Row, topic="keyed").to(Collect("other"))
    with pytest.raises(BadConfig, match="read the same topic"):
        streams_by_topic(twice.freeze())
