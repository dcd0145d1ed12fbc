"""Targets of the file sinks in a bucket, read by botocore's own client."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import Sink
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.behind_proxy import Proxied
from tests.conformance.sink_targets import MEMORY, Reader
from tests.faults.proxy import address_of, through
from tests.services.s3 import S3Server


class BucketTarget:
    """A prefix of a new bucket; *make* gives the sink for its URI, *reader* a frame of its files."""

    def __init__(self, server: S3Server, make: Callable[[str], Sink], pattern: str, reader: Reader) -> None:
        self.server, self.bucket = server, server.fresh_bucket()["BUCKET"]
        self._make, self._pattern, self._reader = make, pattern, reader
        self.sink = make(self.uri())

    def uri(self, endpoint: str | None = None) -> str:
        return self.server.uri(f"{self.bucket}/out/rows", endpoint)

    async def start(self) -> None:
        """The bucket is there."""

    def keys(self, prefix: str) -> list[str]:
        pages = self.server.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def body(self, key: str) -> bytes:
        body: bytes = self.server.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def uploads(self) -> list[str]:
        """Keys of all uploads that are not over."""
        found = self.server.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in found.get("Uploads", ())]

    async def rows(self) -> pl.DataFrame:
        folder = Path(tempfile.mkdtemp(prefix="streamcore-bucket-", dir=MEMORY))
        try:
            for key in self.keys("out/rows/"):
                if "/_seals/" not in key:
                    path = folder / key.removeprefix("out/rows/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(self.body(key))
            if not list(folder.glob(self._pattern)):
                return pl.DataFrame(schema=COLUMNS)
            return self._reader(str(folder / self._pattern)).select(COLUMNS.names()).collect()
        finally:
            shutil.rmtree(folder)

    async def positions(self) -> Mapping[PartitionId, int]:
        last = {
            key.rpartition("/")[0]: key for key in sorted(self.keys("out/rows/_seals/")) if "/." not in key
        }
        seals = [json.loads(self.body(key)) for key in last.values()]
        return {
            PartitionId(seal["topic"], seal["partition"], seal["topic_id"]): seal["end"] for seal in seals
        }

    async def close(self) -> None:
        """A bucket stays as long as its server."""


class ProxiedBucket(Proxied, BucketTarget):
    """The same behind a proxy."""

    @property
    def server_address(self) -> tuple[str, int]:
        return address_of(self.server.endpoint)

    def go_through(self, port: int) -> None:
        self.sink = self._make(self.uri(through(self.server.endpoint, port)))
