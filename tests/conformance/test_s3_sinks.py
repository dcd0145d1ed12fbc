"""The file sinks write into a bucket as they do into a folder: the same laws, on a real server."""

from __future__ import annotations

from functools import partial

import pytest

from streamcore.contracts import FlushReason
from streamcore.sinks.files import Csv, Excel, JsonLines, Parquet
from streamcore.systems import s3_client
from streamcore.testing.sink_world import (
    ORDERS,
    Suite,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    frame_of,
)
from streamcore.testing.sinks import BreakableSinkConformance
from tests.conformance.s3_targets import BucketTarget, ProxiedBucket
from tests.conformance.sink_targets import (
    read_csv,
    read_excel,
    read_hive_parquet,
    read_json_lines,
    read_parquet,
)
from tests.conformance.test_sinks import TestCsv, TestJsonLines, TestParquet, TestPartitionedParquet
from tests.services.s3 import S3Server


class InS3:
    """A server for the targets."""

    server: S3Server

    @pytest.fixture(autouse=True)
    def _server(self, s3: S3Server) -> None:
        self.server = s3


@pytest.mark.slow
class TestParquetInS3(InS3, TestParquet):
    def target(self) -> BucketTarget:
        return BucketTarget(self.server, partial(Parquet, roll_seconds=30), "**/*.parquet", read_parquet)


@pytest.mark.slow
class TestPartitionedParquetInS3(InS3, TestPartitionedParquet):
    def target(self) -> BucketTarget:
        make = partial(Parquet, partition_by=["name"], roll_seconds=30)
        return BucketTarget(self.server, make, "**/*.parquet", read_hive_parquet)

    def test_memory_stays_bounded_without_a_flush(self) -> None:
        """Waived: its 8,000 names are 8,000 objects; the sink without folders keeps this law."""


@pytest.mark.slow
class TestCsvInS3(InS3, TestCsv):
    def target(self) -> BucketTarget:
        return BucketTarget(self.server, partial(Csv, roll_seconds=30), "**/*.csv", read_csv)


@pytest.mark.slow
class TestJsonLinesInS3(InS3, TestJsonLines):
    def target(self) -> BucketTarget:
        return BucketTarget(self.server, partial(JsonLines, roll_seconds=30), "**/*.jsonl", read_json_lines)


class TestExcelInS3(InS3, Suite):
    def target(self) -> BucketTarget:
        return BucketTarget(self.server, partial(Excel, roll_seconds=30), "**/*.xlsx", read_excel)

    def test_a_workbook_is_written_in_order_and_read_back(self) -> None:
        """An upload can't be sought in, as a file can; the laws are those of the other formats."""

        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(40)), [20], ORDERS), FlushReason.END)
            assert_same_rows(await world.target.rows(), frame_of(range(40)))

        self.run(test)


class TestBehindAConnection(InS3, BreakableSinkConformance):
    @pytest.fixture(autouse=True)
    def _short_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_client, "_FIRST_PAUSE", 0.001)

    def target(self) -> ProxiedBucket:
        return ProxiedBucket(self.server, partial(Parquet, roll_seconds=30), "**/*.parquet", read_parquet)


del TestCsv, TestJsonLines, TestParquet, TestPartitionedParquet
