"""A prefix of a bucket as a fault run's target, seen by botocore's own client."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import polars as pl
from botocore.exceptions import BotoCoreError, ClientError

from tests.faults.proxy import address_of, through
from tests.faults.targets import Positions, Seen, in_thread
from tests.services.s3 import S3Server

_PREFIX = "out/"


class BucketTarget:
    """Parquet objects, and the seals beside them, in a bucket of the run's own."""

    kind, folds = "s3", False

    def __init__(self, server: S3Server, topic: str) -> None:
        self._server, self._bucket, self._topic = server, server.fresh_bucket()["BUCKET"], topic
        self.address = server.uri(f"{self._bucket}/out")

    @property
    def server_address(self) -> tuple[str, int]:
        return address_of(self._server.endpoint)

    def go_through(self, port: int) -> None:
        """Workers reach the server by a proxy at *port* of this machine."""
        self.address = self._server.uri(f"{self._bucket}/out", through(self._server.endpoint, port))

    async def prepare(self) -> None:
        """The bucket is there."""

    async def positions(self) -> Positions:
        """Up to where rows are to be seen: between a seal and the ends of its uploads they are hidden."""
        return await in_thread(self._positions, BotoCoreError, ClientError)

    async def look(self) -> Seen:
        return await in_thread(self._look, BotoCoreError, ClientError)

    def _positions(self) -> Positions:
        keys, found = self._keys(), dict[int, int]()
        there = set(keys)
        last = {key.rpartition("/")[0]: key for key in keys if "/_seals/" in key and "/." not in key}
        for key in last.values():
            seal = json.loads(self._body(key))
            if seal["topic"].startswith(self._topic):
                shown = all(f"{_PREFIX}{path}" in there for path in seal["outputs"])
                found[seal["partition"]] = seal["end"] if shown else int(key.rpartition("/")[2].split("-")[0])
        return found

    def _look(self) -> Seen:
        positions = self._positions()
        keys = [key for key in self._keys() if key.endswith(".parquet")]
        keys.sort(key=lambda key: key.split("/")[::-1])
        frames = [pl.read_parquet(io.BytesIO(self._body(key)), columns=["id"]) for key in keys]
        return Seen(positions, pl.concat(frames)["id"].to_list() if frames else [], exact=False)

    def _keys(self) -> Sequence[str]:
        pages = self._server.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self._bucket, Prefix=_PREFIX)
        return sorted(one["Key"] for page in found for one in page.get("Contents", ()))

    def _body(self, key: str) -> bytes:
        body: bytes = self._server.client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body
