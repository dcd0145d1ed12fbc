"""A prefix of a bucket as the storage of a file sink: uploads in parts, and puts that never overwrite.

An output is staged as an upload under its final key that is not completed: its parts are durable, and nobody
sees them. Publishing completes it. A seal is created by a put with ``If-None-Match: *``, of which one wins.

An output's key holds its seal's name, so what an owner may complete or abort is told by the key alone.
A rule of the bucket that aborts unfinished uploads must leave them for longer than a job may stand still
after a crash: they are the rows of its last seal.
"""

from __future__ import annotations

import io
import re
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from streamcore.errors import Permanent, StreamcoreError
from streamcore.sinks.storage import SEALS, Output, Staged, Waiting
from streamcore.systems.s3 import Bucket, Part
from streamcore.systems.s3_address import address
from streamcore.systems.s3_client import Missing, submit

T = TypeVar("T")
PART_BYTES = 8 << 20
_KEY_LIMIT = 1024
"""Bytes, of S3."""
_FIRST_STEP_BACK = 10_000
_ON_THE_WAY = 4
"""Requests of one call at a time; each holds a part."""


def bucket_storage(uri: str) -> BucketStorage:
    """The storage that ``s3://bucket/prefix?…`` names. BadConfig when it is wrong; no I/O."""
    where = address(uri)
    prefix = where.key.rstrip("/")
    return BucketStorage(Bucket(where), f"{prefix}/" if prefix else "")


@dataclass(frozen=True)
class BucketStorage:
    """Objects whose keys begin with *prefix*, which is empty or ends with "/"."""

    bucket: Bucket
    prefix: str

    @property
    def shown(self) -> str:
        return self.bucket.where.uri(self.prefix).rstrip("/")

    @property
    def longest(self) -> int:
        return _KEY_LIMIT - len(self.prefix.encode())

    def at(self, path: str) -> str:
        return self.bucket.where.uri(self.prefix + path)

    def shelf(self, stream: str, partition: int, owner: str) -> BucketShelf:
        return BucketShelf(self, stream, partition)

    def reach(self) -> None:
        """By a listing; whether objects may be put there it does not say."""
        self.bucket.find(self.prefix, limit=1)

    def prepare(self, owner: str) -> None:
        """Try that the bucket can be written, and that a put does not overwrite when told so."""
        probe = f"{self.prefix}{SEALS}/.probe-{uuid.uuid4().hex}"
        self.bucket.create(probe, b"streamcore")  # who does not answer to this is not asked to delete it
        try:
            if self.bucket.create(probe, b"other"):
                raise Permanent(
                    "this server overwrites in spite of If-None-Match, which keeps two workers from writing "
                    "the same rows",
                    where=self.shown,
                    fix="use a newer version of it, or another server",
                )
        finally:
            with suppress(StreamcoreError):
                self.bucket.delete(probe)


class BucketShelf:
    """The seals of a partition, and its uploads that are not completed."""

    def __init__(self, storage: BucketStorage, stream: str, partition: int) -> None:
        self._bucket, self._prefix = storage.bucket, storage.prefix
        self._seals = f"{storage.prefix}{SEALS}/{stream}/{partition:05d}/"
        self._ours = re.compile(rf"(?:.*/)?{stream}-{partition:05d}-(\d+-\d+)\.\w+", re.DOTALL)

    def make(self) -> None:
        """A bucket has no folders."""

    def last(self, near: int) -> str | None:
        """Of those from *near* on, or from ever farther before it: a listing goes forward only."""
        back = _FIRST_STEP_BACK
        while True:
            found = self._bucket.find(self._seals, after=f"{self._seals}{near:020d}" if near else "")
            if found:
                return found[-1].key.removeprefix(self._seals)
            if not near:
                return None
            near, back = max(0, near - back), back * 8

    def has(self, name: str) -> bool:
        return self._bucket.look(self._seals + name) is not None

    def read(self, name: str) -> bytes:
        return self._bucket.read(self._seals + name)

    def create(self, name: str, content: bytes) -> bool:
        return self._bucket.create(self._seals + name, content) or self.read(name) == content

    def stage(self, name: str, outputs: Sequence[Output]) -> list[Staged]:
        requests, uploads = _Requests(), list[_Upload]()
        try:
            for output in outputs:
                upload = _Upload(self._bucket, self._prefix + output.path, requests)
                uploads.append(upload)
                output.write(cast(BinaryIO, upload))
                upload.end()
            return [
                Staged(output.path, upload.receipt()) for output, upload in zip(outputs, uploads, strict=True)
            ]
        except BaseException:
            for upload in uploads:
                upload.abort()
            raise

    def publish(self, staged: Sequence[Staged]) -> None:
        requests = _Requests()
        waits = []
        for path, receipt in staged:
            upload, *etags = receipt.split(" ")
            waits.append(requests.begin(self._bucket.complete(self._prefix + path, upload, etags)))
        for (path, _), wait in zip(staged, waits, strict=True):
            try:
                wait()
            except Missing:
                raise Permanent(
                    "an upload that a seal names is neither waiting nor completed: rows are lost",
                    where=self._bucket.where.uri(self._prefix + path),
                    fix="look for who aborted it, e.g. a rule of the bucket for unfinished uploads",
                ) from None

    def waiting(self) -> list[Waiting]:
        found = [
            (self._ours.fullmatch(key), key, upload) for key, upload in self._bucket.uploads(self._prefix)
        ]
        return [Waiting(match[1], upload, key) for match, key, upload in found if match]

    def discard(self, waiting: Waiting) -> None:
        self._bucket.abort(waiting.place, waiting.word)


class _Requests:
    """Requests of one call, some at a time; who begins one more waits for the oldest."""

    def __init__(self) -> None:
        self._begun: deque[Callable[[], object]] = deque()

    def begin(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        if len(self._begun) == _ON_THE_WAY:
            try:
                self._begun.popleft()()
            except BaseException:
                work.close()
                raise
        wait = submit(work)
        self._begun.append(wait)
        return wait


class _Upload(io.RawIOBase):
    """A file to be written in order, whose parts leave while the next one is made."""

    def __init__(self, bucket: Bucket, key: str, requests: _Requests) -> None:
        super().__init__()
        self._bucket, self._key, self._requests = bucket, key, requests
        self._parts: list[Callable[[], Part]] = []
        self._held: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        self._size += len(self._held[-1])
        if self._size >= PART_BYTES:
            self._send()
        return len(data)

    def end(self) -> None:
        """Send what is left; an empty file has one empty part."""
        if self._held or not self._parts:
            self._send()

    def _send(self) -> None:
        data, self._held, self._size = b"".join(self._held), [], 0
        if self._parts:
            upload, number = self._parts[0]().upload, len(self._parts) + 1
            work = self._bucket.send_part(self._key, upload, number, data)
        else:
            work = self._bucket.begin_upload(self._key, data)
        self._parts.append(self._requests.begin(work))

    def receipt(self) -> str:
        """The upload and its parts' tags, when the server has all of them."""
        parts = [wait() for wait in self._parts]
        return " ".join([parts[0].upload, *(part.etag for part in parts)])

    def abort(self) -> None:
        """Take it away as far as that can be done now; what is left is litter for the next owner."""
        with suppress(StreamcoreError):
            if self._parts:
                self._bucket.abort(self._key, self._parts[0]().upload)
